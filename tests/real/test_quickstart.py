"""The quickstart of a fresh installation, without network and without weights."""

import json
import os
import shutil
import subprocess
import sys

import pytest


def _without_network() -> list[str]:
    """Return the command prefix for a new network namespace, empty if the system does not allow it."""
    words = ["unshare", "-rn"]
    if shutil.which("unshare") and subprocess.run([*words, "true"], check=False).returncode == 0:
        return words
    return []


@pytest.mark.slow
def test_adaptation_beats_no_adaptation_and_scratch_offline(tmp_path):
    (tmp_path / "home").mkdir()
    environment = os.environ | {"KERAS_HOME": str(tmp_path / "home")}
    words = [sys.executable, "-m", "kerastl", "quickstart", "--json", "--out", str(tmp_path / "run")]
    done = subprocess.run(
        [*_without_network(), *words],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout)
    assert result["verified"]
    at_a, unchanged, adapted, scratch = (row["value"] for row in result["rows"].values())
    assert unchanged < at_a
    assert adapted > unchanged
    assert adapted > scratch
    assert (tmp_path / "run" / "report.html").is_file()
    assert (tmp_path / "run" / "export" / "saved_model" / "1" / "saved_model.pb").is_file()
    # Keras writes its settings on import. Downloaded weights would be in models/.
    assert {path.name for path in (tmp_path / "home").iterdir()} <= {"keras.json"}

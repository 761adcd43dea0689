"""The quickstart, as a stranger runs it: installed, the network cut, no weights anywhere."""

import json
import os
import shutil
import subprocess
import sys

import pytest


def _without_network() -> list[str]:
    """Words that run a command in a network namespace of its own, none where the system forbids it."""
    words = ["unshare", "-rn"]
    if shutil.which("unshare") and subprocess.run([*words, "true"], check=False).returncode == 0:
        return words
    return []


@pytest.mark.slow
def test_the_quickstart_tells_its_story_offline(tmp_path):
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
    told = json.loads(done.stdout)
    assert told["verified"]
    at_a, unchanged, adapted, scratch = (row["value"] for row in told["rows"].values())
    assert unchanged < at_a
    assert adapted > unchanged
    assert adapted > scratch
    assert (tmp_path / "run" / "report.html").is_file()
    assert (tmp_path / "run" / "export" / "saved_model" / "1" / "saved_model.pb").is_file()
    # Keras writes its settings on import; weights would lie in models/.
    assert {path.name for path in (tmp_path / "home").iterdir()} <= {"keras.json"}

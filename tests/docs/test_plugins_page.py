"""The example package of docs/plugins.md, built, installed and used."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text()
AUGMENT = "augment=[{name: random_gain, max_change: %s}]"


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Environment variables with which Python finds the installed package."""
    project, installed = tmp_path_factory.mktemp("kerastl-gain"), tmp_path_factory.mktemp("installed")
    (project / "pyproject.toml").write_text(re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)[1])
    (project / "kerastl_gain.py").write_text(re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1])
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(installed), str(project)], check=True)
    path = os.pathsep.join([str(installed), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {"PYTHONPATH": path}


def run(environment, *words, **options):
    command = [sys.executable, *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, **options)


def test_a_recipe_uses_the_plug_in_and_its_options_are_checked(environment):
    check = ("-m", "kerastl", "check", "quickstart", "--set")
    accepted = run(environment, *check, AUGMENT % 0.3)
    assert accepted.returncode == 0, accepted.stderr
    refused = run(environment, *check, AUGMENT % 3)
    assert refused.returncode == 1
    assert "augment[0].max_change: must be a fraction from 0 to 1, got 3" in refused.stderr


@pytest.mark.slow
def test_the_plug_in_fulfills_the_contract_and_a_run_records_its_package(environment, tmp_path):
    code = "from kerastl.testing import check_augmentation; check_augmentation('random_gain')"
    contract = run(environment, "-c", code)
    assert contract.returncode == 0, contract.stderr
    small = (
        "target=null", "data.image_size_px=32", AUGMENT % 0.3, "export.formats=[]",
        "data.reader={name: phantom, patients: 12, slices_per_patient: 2, image_size_px: 32}",
        "phases=[{name: all, epochs: 1, trainable: all}]",
    )  # fmt: skip
    sets = [word for setting in small for word in ("--set", setting)]
    trained = run(environment, "-m", "kerastl", "run", "quickstart", "--out", "run", *sets, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert json.loads((tmp_path / "run" / "versions.json").read_text())["packages"]["kerastl-gain"] == "1.0"

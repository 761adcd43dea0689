"""The wheel contains the package, its recipes and its templates, and nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), "."]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    return zipfile.ZipFile(wheel).namelist()


def test_the_wheel_installs_only_kerastl(names):
    assert {name.split("/")[0] for name in names} == {"kerastl", "kerastl-0.1.0.dist-info"}


def test_the_wheel_contains_the_recipes_and_templates(names):
    recipes = {f"kerastl/_recipes/{path.name}" for path in (ROOT / "recipes").glob("*.yaml")}
    assert len(recipes) == 8
    assert recipes <= set(names)
    assert any(name.startswith("kerastl/report/templates/") for name in names)
    assert "kerastl/py.typed" in names

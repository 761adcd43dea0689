"""`kerastl export --version N --keep K`: numbers as asked, nothing overwritten, old versions removed, and it is said."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kerastl.cli import app
from kerastl.errors import RequestError
from kerastl.export import export_once, export_run
from tests.export.conftest import images, model, run_folder

__all__ = ["model", "images", "run_folder"]


def kerastl(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_version_is_written_as_asked_pruned_and_never_overwritten(run_folder: Path) -> None:
    out = run_folder / "export" / "saved_model"
    assert kerastl("export", run_folder, "--version", 5).output.startswith(f"Wrote {out / '5'}\n")
    (out / "2").mkdir()
    compose = out / "docker-compose.yml"
    compose.write_text(compose.read_text() + "# ours\n")

    done = kerastl("export", run_folder, "--version", 7, "--keep", 1)
    assert done.exit_code == 0, done.output
    assert f"Removed {out / '5'}\n" in done.output
    assert f"Left {out / '2'}: it is no version of this export\n" in done.output
    assert f"Left as it is, as kerastl did not write it so, in {out}: docker-compose.yml\n" in done.output
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == ["2", "7"]

    lower = kerastl("export", run_folder, "--version", 6)
    assert "A server answers with the highest version there: 7\n" in lower.output

    before = files_of(out)
    refused = kerastl("export", run_folder, "--version", 7)
    assert refused.exit_code == 1
    assert isinstance(refused.exception, RequestError)
    assert "holds version 7 already" in str(refused.exception)
    assert files_of(out) == before
    assert kerastl("export", run_folder, "--keep", 0).exit_code == 2
    assert kerastl("export", run_folder, "--version", 0).exit_code == 2


@pytest.mark.slow
def test_a_run_that_goes_on_finds_its_version_and_completes_what_stands_beside(run_folder: Path) -> None:
    written = export_run(run_folder, version=3)
    (written.parent / "kubernetes.yaml").unlink()
    (written.parent / ".written.json").unlink()
    assert export_once(run_folder) == written
    assert (written.parent / "kubernetes.yaml").is_file()
    shutil.rmtree(written)
    assert export_run(run_folder, keep=1).name == "1"

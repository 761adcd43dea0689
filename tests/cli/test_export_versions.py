"""`kerastl export --version N --keep K`: the requested number, nothing overwritten, old versions removed and reported."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kerastl.cli import app
from kerastl.errors import RequestError
from kerastl.export import export_once

pytestmark = pytest.mark.xdist_group("exported_run")


def kerastl(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_versions_are_written_pruned_and_never_overwritten(run_with_export: Callable[[str], Path]) -> None:
    run_folder = run_with_export("saved_model")
    out = run_folder / "export" / "saved_model"
    (out / "2").mkdir()
    compose = out / "docker-compose.yml"
    compose.write_text(compose.read_text() + "# ours\n")

    done = kerastl("export", run_folder, "--version", 7, "--keep", 1)
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert sum(line.startswith(f"Wrote {out / '7'}") for line in lines) == 1
    assert any(line.startswith("Deleted") and str(out / "1") in line for line in lines)
    assert any(line.startswith("Kept") and str(out / "2") in line for line in lines)
    assert any("docker-compose.yml" in line for line in lines), "it was edited"
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == ["2", "7"]

    lower = kerastl("export", run_folder, "--version", 6)
    assert (lower.exit_code, "7" in lower.output) == (0, True), "the server uses version 7"

    before = files_of(out)
    refused = kerastl("export", run_folder, "--version", 7)
    assert refused.exit_code == 1
    assert isinstance(refused.exception, RequestError)
    assert files_of(out) == before
    assert kerastl("export", run_folder, "--keep", 0).exit_code == 2
    assert kerastl("export", run_folder, "--version", 0).exit_code == 2


def test_export_once_finds_its_version_and_restores_missing_serving_files(
    run_with_export: Callable[[str], Path],
) -> None:
    run_folder = run_with_export("saved_model")
    out = run_folder / "export" / "saved_model"
    (out / "1").rename(out / "3")
    (out / "kubernetes.yaml").unlink()
    (out / ".written.json").unlink()
    assert export_once(run_folder) == out / "3"
    assert (out / "kubernetes.yaml").is_file()

"""`kerastl export --version N --keep K`: the requested number, nothing overwritten, old versions removed and reported."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf
from click.testing import CliRunner, Result
from tensorflow_serving.apis import prediction_log_pb2

from kerastl.cli import app
from kerastl.errors import RequestError
from kerastl.export import export_once, resolve_model_name

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


def test_the_name_of_a_model_is_in_every_file_and_the_same_for_all_versions(
    finished_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "served"
    done = kerastl("export", finished_run, "--out", out, "--model-name", "lung-ct")
    assert done.exit_code == 0, done.output
    assert json.loads((out / "1" / "manifest.json").read_text())["model_name"] == "lung-ct"
    assert 'name: "lung-ct"' in (out / "models.config").read_text()
    records = tf.data.TFRecordDataset(str(out / "1" / "assets.extra" / "tf_serving_warmup_requests"))
    log = prediction_log_pb2.PredictionLog.FromString(next(iter(records)).numpy())
    assert getattr(log, log.WhichOneof("log_type")).request.model_spec.name == "lung-ct"

    before = files_of(out)
    refused = kerastl("export", finished_run, "--out", out, "--model-name", "other")
    assert refused.exit_code == 1
    assert "--model-name lung-ct" in str(refused.exception)
    assert files_of(out) == before
    assert resolve_model_name(out, None, finished_run) == "lung-ct"


def test_invalid_names_are_refused_with_all_other_problems(finished_run: Path, tmp_path: Path) -> None:
    words = ("export", finished_run, "--out", tmp_path / "served", "--threshold", "sensitivity")
    refused = kerastl(*words, "--model-name", "Lung CT")
    assert refused.exit_code == 1
    assert "threshold sensitivity" in str(refused.exception)
    assert "--model-name: The name of a model must be" in str(refused.exception)
    assert "Use lung-ct." in str(refused.exception)
    portable = kerastl("export", finished_run, "--format", "keras", "--model-name", "lung-ct")
    assert "no server runs the format keras" in str(portable.exception)
    assert not (tmp_path / "served").exists()


def test_the_default_name_is_that_of_the_recipe(run_folder: Path, tmp_path: Path) -> None:
    assert resolve_model_name(tmp_path, None, run_folder) == "kerastl"
    (run_folder / "recipe.resolved.yaml").write_text("format: 1\nexport:\n  model_name: no\n")
    assert resolve_model_name(tmp_path, None, run_folder) == "no"
    assert resolve_model_name(tmp_path, "yes", run_folder) == "yes"
    (run_folder / "recipe.resolved.yaml").write_text("format: 1\nexport: {model_name: A}\n")
    with pytest.raises(RequestError, match="got 'A'"):
        resolve_model_name(tmp_path, None, run_folder)

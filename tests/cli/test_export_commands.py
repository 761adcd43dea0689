"""The commands export, verify, predict and report, called as a user calls them."""

import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kerastl.cli import app
from kerastl.errors import RequestError
from kerastl.export import export_run
from tests.export.conftest import CLASS_NAMES

pytestmark = pytest.mark.xdist_group("exported_run")


def kerastl(*words: Any) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], standalone_mode=True)


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("inner", ["", "new", "new/served"])
def test_a_folder_that_cannot_be_written_is_named_before_the_export(
    inner: str, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    # Root may write to every folder, except on a read-only disk.
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != locked or mode == os.R_OK)
    result = kerastl("export", run_folder, "--out", locked / inner, "--model-name", "Not valid")
    assert result.exit_code == 1
    message = str(result.exception)
    assert f"--out: The folder {locked} cannot be written. Choose another: --out DIR" in message
    assert "--model-name: " in message, "all problems are reported together"
    with pytest.raises(RequestError, match=f"The folder {locked} cannot be written"):
        export_run(run_folder, "saved_model", locked / inner)
    assert not list(locked.iterdir())


@pytest.mark.slow
def test_an_export_with_samples_is_verified_anywhere_and_predicts_as_the_run(
    run_folder: Path, images: list[Path], tmp_path: Path
) -> None:
    exported = kerastl("export", run_folder, "--with-samples")
    assert (exported.exit_code, exported.exception) == (0, None)
    export, away = run_folder / "export" / "saved_model", tmp_path / "away"
    assert len(list((export / "1" / "samples").glob("sample_*"))) == 8
    by_export, by_run = (
        rows_of(kerastl("predict", model, images[0].parent).stdout) for model in (export, run_folder)
    )
    assert [row["predicted"] for row in by_export] == [row["predicted"] for row in by_run]
    assert len(by_export) == 8
    probabilities = [f"prob_{name}" for name in CLASS_NAMES]
    model_columns = ["model_version", "model_sha256"]
    assert list(by_export[0]) == [
        "path",
        "predicted",
        "confidence",
        "problem",
        *probabilities,
        *model_columns,
    ]

    shutil.copytree(export, away)
    result = kerastl("verify", away, "--json")
    assert result.exit_code == 0, result.output
    findings = json.loads(result.stdout)
    assert {"equal to kerastl predict", "images differ"} <= {finding["check"] for finding in findings}
    assert all(finding["passed"] for finding in findings)
    assert {finding["result"] for finding in findings} == {"ok"}
    quick = kerastl("verify", away, "--quick").stdout.splitlines()
    assert quick[0] == f"{away / '1'}: no fault in {len(quick) - 1} checks on 8 images."
    sample = next((away / "1" / "samples").glob("sample_1.*"))
    sample.write_bytes((away / "1" / "samples" / "sample_5.png").read_bytes())
    changed = kerastl("verify", away)
    assert changed.exit_code == 1
    assert changed.stdout.startswith(f"{away / '1'}: equal to kerastl predict: FAULT")


def test_an_export_without_images_is_verified_with_a_run_only(
    exported_run: Callable[[str], Path], tmp_path: Path
) -> None:
    away = shutil.copytree(exported_run("saved_model") / "export", tmp_path / "away")
    result = kerastl("verify", away / "saved_model")
    assert isinstance(result.exception, RequestError)
    assert "--run RUN" in str(result.exception)


def test_unreadable_files_have_a_row_and_a_message_and_are_not_fatal(
    run_folder: Path, images: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "=bad.png").write_bytes(b"no image")
    out = tmp_path / "answers.csv"
    result = kerastl("predict", run_folder, tmp_path / "=bad.png", images[1], "--out", out)
    assert result.exit_code == 0
    assert "=bad.png: " in result.stderr
    bad, checked = rows_of(out.read_text(encoding="utf-8"))
    assert (bad["predicted"], checked["problem"]) == ("", "")
    assert bad["problem"]
    assert sum(float(checked[f"prob_{name}"]) for name in CLASS_NAMES) == pytest.approx(1, abs=1e-4)


def test_a_table_of_predictions_is_never_overwritten(
    run_folder: Path, images: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "answers.csv"
    out.write_text("mine")
    result = kerastl("predict", run_folder, images[0], "--out", out)
    assert str(out) in str(result.exception)
    assert out.read_text() == "mine"


def test_only_unreadable_files_exit_with_1(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    result = kerastl("predict", run_folder, tmp_path / "bad.png", "--json")
    assert result.exit_code == 1
    assert "problem" in json.loads(result.stdout)


def test_a_folder_without_images_and_a_missing_folder_are_refused(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    empty = kerastl("predict", run_folder, tmp_path / "none")
    assert isinstance(empty.exception, RequestError)
    gone = kerastl("predict", run_folder, tmp_path / "none", "--out", tmp_path / "gone" / "a.csv")
    assert str(tmp_path / "gone") in str(gone.exception)


@pytest.mark.parametrize("name", ["export", "report"])
def test_a_folder_that_is_not_a_run_is_refused(name: str, tmp_path: Path) -> None:
    assert isinstance(kerastl(name, tmp_path).exception, RequestError)


def test_report_writes_the_page_of_a_run(run_folder: Path) -> None:
    result = kerastl("report", run_folder)
    assert result.exit_code == 0, result.output
    assert (run_folder / "report.html").is_file()

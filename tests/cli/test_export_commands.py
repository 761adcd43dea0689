"""The commands export, verify, predict and report, called as a user calls them."""

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kerastl.cli import app
from kerastl.errors import RequestError
from tests.export.conftest import CLASS_NAMES, encoded, images, model, run_folder

__all__ = ["encoded", "model", "images", "run_folder"]


def kerastl(*words: Any) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], standalone_mode=True)


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.slow
def test_a_run_is_exported_verified_and_asked(run_folder: Path, images: list[Path]) -> None:
    exported = kerastl("export", run_folder, "--with-samples")
    assert (exported.exit_code, exported.exception) == (0, None)
    assert "Put 8 test images" in exported.output
    verified = kerastl("verify", run_folder / "export" / "saved_model")
    assert verified.exit_code == 0, verified.output
    assert "no fault" in verified.output
    by_export = kerastl("predict", run_folder / "export" / "saved_model", images[0].parent)
    by_run = kerastl("predict", run_folder, images[0].parent)
    answers = [rows_of(one.stdout) for one in (by_export, by_run)]
    assert [row["predicted"] for row in answers[0]] == [row["predicted"] for row in answers[1]]
    assert len(answers[0]) == 8
    assert list(answers[0][0]) == ["path", "predicted", "problem", *(f"prob_{n}" for n in CLASS_NAMES)]


@pytest.mark.slow
def test_an_export_away_from_its_run_is_verified_on_its_samples(run_folder: Path, tmp_path: Path) -> None:
    assert kerastl("export", run_folder, "--with-samples").exit_code == 0
    away = tmp_path / "away"
    shutil.copytree(run_folder / "export" / "saved_model", away)
    result = kerastl("verify", away, "--json")
    assert result.exit_code == 0, result.output
    findings = json.loads(result.stdout)
    assert {"equal to kerastl predict", "images differ"} <= {one["check"] for one in findings}
    assert all(one["passed"] for one in findings)
    sample = next((away / "1" / "samples").glob("sample_1.*"))
    sample.write_bytes((away / "1" / "samples" / "sample_5.png").read_bytes())
    assert kerastl("verify", away).exit_code == 1


def test_an_export_without_images_says_what_to_give(run_folder: Path, tmp_path: Path) -> None:
    assert kerastl("export", run_folder, "--out", tmp_path / "away").exit_code == 0
    result = kerastl("verify", tmp_path / "away")
    assert isinstance(result.exception, RequestError)
    assert "--run RUN IMAGES..." in str(result.exception)


def test_unreadable_files_have_a_row_and_a_line_and_are_not_fatal(
    run_folder: Path, images: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "=bad.png").write_bytes(b"no image")
    out = tmp_path / "answers.csv"
    result = kerastl("predict", run_folder, tmp_path / "=bad.png", images[1], "--out", out)
    assert result.exit_code == 0
    assert "=bad.png: this is not an image" in result.stderr
    bad, good = rows_of(out.read_text(encoding="utf-8"))
    assert (bad["predicted"], good["problem"]) == ("", "")
    assert "not an image" in bad["problem"]
    assert sum(float(good[f"prob_{name}"]) for name in CLASS_NAMES) == pytest.approx(1, abs=1e-4)


def test_a_table_of_answers_is_never_written_over_another(
    run_folder: Path, images: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "answers.csv"
    out.write_text("mine")
    result = kerastl("predict", run_folder, images[0], "--out", out)
    assert "exists already" in str(result.exception)
    assert out.read_text() == "mine"


def test_nothing_but_unreadable_files_exits_with_1(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    result = kerastl("predict", run_folder, tmp_path / "bad.png", "--json")
    assert result.exit_code == 1
    assert "problem" in json.loads(result.stdout)


def test_a_folder_without_images_and_a_missing_folder_are_named(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    assert "No image was found" in str(kerastl("predict", run_folder, tmp_path / "none").exception)
    gone = kerastl("predict", run_folder, tmp_path / "none", "--out", tmp_path / "gone" / "a.csv")
    assert "no folder" in str(gone.exception)


@pytest.mark.parametrize("name", ["export", "report"])
def test_what_is_no_run_is_refused(name: str, tmp_path: Path) -> None:
    assert isinstance(kerastl(name, tmp_path).exception, RequestError)


def test_the_page_of_a_run_is_written(run_folder: Path) -> None:
    result = kerastl("report", run_folder)
    assert result.exit_code == 0, result.output
    assert (run_folder / "report.html").is_file()

"""Requests that `kerastl predict` refuses before anything is loaded or written, and its progress bar."""

import io
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kerastl.cli import app
from kerastl.console import progress_bar
from kerastl.errors import Problems
from tests.export.conftest import finished_run, images, model, run_folder

__all__ = ["finished_run", "images", "model", "run_folder"]


def predict(*words: Any, **options: Any) -> Result:
    return CliRunner().invoke(app, ["predict", *map(str, words)], **options)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "--list FILE"),
        (("a.png", "--list", "-"), "--list FILE cannot be combined"),
        (("a.png", "--resume"), "--resume requires --out"),
        (("a.png", "--json", "--out", "a.parquet"), "Parquet"),
        (("a.png", "--batch-size", "0"), "range"),
    ],
)
def test_wrong_usage_exits_with_code_2(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    result = predict(tmp_path, *words)
    assert result.exit_code == 2
    assert message in result.stderr


def test_all_problems_are_reported_together(tmp_path: Path) -> None:
    refused = predict(tmp_path, "a.png", "--out", tmp_path / "gone" / "a.csv").exception
    assert isinstance(refused, Problems)
    assert "gone for a.csv does not exist" in str(refused)
    assert "neither a run folder nor an export" in str(refused)


def test_a_file_list_can_come_from_stdin_and_must_not_be_empty(run_folder: Path, tmp_path: Path) -> None:
    result = predict(run_folder, "--list", "-", "--out", tmp_path / "a.csv", input="\n\n")
    assert "The list is empty" in str(result.exception)
    assert not list(tmp_path.glob("a.csv*"))
    missing = predict(run_folder, "--list", tmp_path / "no-such-list").exception
    assert "no-such-list cannot be read: No such file" in str(missing)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_shows_count_and_speed_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for screen, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", screen)
        with progress_bar("predicting", "files", 1200, 200) as advance:
            advance(400)
        assert ("600/1,200 files" in screen.getvalue()) is shown
        assert ("/s" in screen.getvalue()) is shown


def test_a_model_that_fails_to_load_prints_no_header(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise Problems("The model", [], "It is broken.")

    monkeypatch.setattr("kerastl.export.predict.ModelOnDisk.load", broken)
    result = predict(run_folder, run_folder / "model.json")
    assert result.exit_code
    assert not result.stdout

"""Requests that `kerastl predict` refuses before anything is loaded or written, and its progress bar."""

import csv
import io
import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from kerastl.cli import app
from kerastl.cli.predict import print_counts
from kerastl.console import format_duration, progress_bar, quiet
from kerastl.errors import Problems
from tests.export.conftest import exported_run, finished_run, images, model, run_folder

__all__ = ["exported_run", "finished_run", "images", "model", "run_folder"]

pytestmark = pytest.mark.xdist_group("exported_run")


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


def test_a_wrong_folder_is_answered_with_the_model_that_was_meant(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine" / "export").mkdir(parents=True)
    (tmp_path / "mine" / "export" / "keras").symlink_to(run_folder)
    misspelled = str(predict(tmp_path / "mien", "a.png").exception)
    assert f"Run folder not found: {tmp_path / 'mien'}. There is '{tmp_path / 'mine'}'." in misspelled
    above = str(predict(tmp_path / "mine" / "export", "a.png").exception)
    assert f"To use a model in it: {tmp_path / 'mine' / 'export' / 'keras'}." in above
    assert "To use" not in str(predict(tmp_path / "mine", "a.png").exception)


def test_folders_without_images_are_named(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "my photos").mkdir()
    refused = predict(run_folder, tmp_path / "my photos").exception
    assert "my photos" in str(refused).splitlines()[0]


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


@pytest.mark.parametrize(
    ("seconds", "counts"),
    [
        (0.2, []),
        (3, ["700", "1,000", "1,300", "1,600", "1,900"]),
        (61, [f"{count:,}" for count in range(500, 2200, 100)]),
    ],
)
def test_progress_lines_without_a_terminal_are_a_tenth_of_the_work_or_a_minute_apart(
    seconds: float, counts: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr("kerastl.console.time.monotonic", lambda: now)
    for is_quiet in (True, False):
        with quiet(is_quiet), progress_bar("predicting", "files", 2200, 400) as advance:
            for _ in range(18):
                now += seconds
                advance(100)
        lines = capsys.readouterr().err.splitlines()
        assert [line.split()[1] for line in lines] == ([] if is_quiet else counts)
    if counts:
        left = (22 - int(counts[-1].replace(",", "")) // 100) * seconds
        assert f"{100 / seconds:.1f}/s, about {format_duration(left)} left" in lines[-1]


def test_a_model_that_fails_to_load_prints_no_header(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise Problems("The model", [], "It is broken.")

    monkeypatch.setattr("kerastl.export.predict.ModelOnDisk.load", broken)
    result = predict(run_folder, run_folder / "model.json")
    assert result.exit_code
    assert not result.stdout


def files_of_every_kind(folder: Path) -> dict[str, bool]:
    """Write files to a folder. Return for each whether it has a prediction (True) or a row with a problem (False)."""
    photo, turned = folder / "photo.jpg", folder / "turned.jpg"
    pixels = np.linspace(0, 255, 40 * 60 * 3).reshape(40, 60, 3).astype(np.uint8)
    Image.fromarray(pixels).save(photo, quality=95)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(pixels)).save(turned, quality=95, exif=exif)
    contents = {
        name: photo.read_bytes() for name in ("a.jfif", "a.jpe", "a", "PNG named.png", "x.jpg/deep.dat")
    }
    contents |= {
        "cut.jpg": photo.read_bytes()[:700] + b"\xff\xd9",
        "a.jp2": b"\xff\x4f\xff\x51" + bytes(99),
        "a.dcm": bytes(128) + b"DICM" + bytes(99),
        "a.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99),
        "text.png": b"text",
        "zero.png": b"",
    }
    for name, content in contents.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    os.mkfifo(folder / "pipe.png")
    for name in ("Thumbs.db", ".DS_Store", "._a.jpg"):
        (folder / name).write_bytes(b"x")
    problems = {"cut.jpg", "a.jp2", "a.dcm", "a.heic", "text.png", "zero.png"}
    return {name: name not in problems for name in (*contents, "photo.jpg", "turned.jpg")} | {
        "pipe.png": False
    }


def test_every_file_in_a_folder_has_a_row_or_is_named(
    exported_run: Callable[[str], Path], tmp_path: Path
) -> None:
    expected = files_of_every_kind(tmp_path)
    run = exported_run("saved_model")
    tables = []
    for source in (run, run / "export" / "saved_model"):
        result = predict(source, tmp_path)
        assert result.exit_code == 0, result.stderr
        rows = {row["path"]: row for row in csv.DictReader(io.StringIO(result.stdout))}
        assert {path: not row["problem"] for path, row in rows.items()} == {
            str(tmp_path / name): is_read for name, is_read in expected.items()
        }
        assert (
            f"{list(expected.values()).count(False)} of {len(expected)} files could not be read."
            in result.stderr
        )
        assert "Ignored 1 file that is not a supported image. 1 .db: Thumbs.db." in result.stderr
        assert "Ignored 2 hidden files" in result.stderr
        tables.append({path: float(row["prob_benign"] or -1) for path, row in rows.items()})
    assert tables[0] == pytest.approx(tables[1], abs=1e-5)
    probabilities = {path.removeprefix(f"{tmp_path}/"): value for path, value in tables[0].items()}
    assert probabilities["a.jfif"] == probabilities["x.jpg/deep.dat"] == probabilities["photo.jpg"]
    assert probabilities["turned.jpg"] == pytest.approx(probabilities["photo.jpg"], abs=0.02)


def test_strict_fails_after_all_other_files_are_predicted(
    exported_run: Callable[[str], Path], images: list[Path], tmp_path: Path
) -> None:
    bad, run = tmp_path / "bad.png", exported_run("saved_model")
    bad.write_bytes(b"not an image")
    weights = json.loads((run / "export/saved_model/1/manifest.json").read_text())["model_sha256"]
    for source, version in (
        (run, ""),
        (run / "export/saved_model", "1"),
        (run / "export/saved_model/1", "1"),
    ):
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}.csv"
        assert predict(source, bad, *images, "--out", out, "--strict").exit_code == 1
        rows = list(csv.DictReader(io.StringIO(out.read_text())))
        assert [bool(row["problem"]) for row in rows] == [True, *[False] * len(images)]
        assert {(row["model_version"], row["model_sha256"]) for row in rows} == {(version, weights)}
    assert predict(run / "export/saved_model", *images, "--strict").exit_code == 0
    lenient = tmp_path / "lenient.csv"
    assert predict(source, bad, *images, "--out", lenient).exit_code == 0
    assert lenient.read_text() == out.read_text()


def test_files_that_are_not_images_are_refused_before_the_model_is_loaded(
    run_folder: Path, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise AssertionError("the model was loaded")

    (tmp_path / "notes.txt").write_text("x")
    monkeypatch.setattr("kerastl.cli.predict.load_tensorflow", fail)
    refused = predict(run_folder, tmp_path / "notes.txt", "/dev/zero", "--out", tmp_path / "a.csv")
    assert (
        str(refused.exception)
        == f"No images: {tmp_path / 'notes.txt'} (.txt), /dev/zero (not a regular file)."
    )
    assert not list(tmp_path.glob("a.csv*"))
    assert "loaded" in str(predict(run_folder, tmp_path / "notes.txt", images[0]).exception)


@pytest.mark.parametrize("name", ["a.parquet", "a.csv"])
def test_a_table_is_refused_with_the_call_that_scores_its_images(
    run_folder: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text("x")
    message = str(predict(run_folder, tmp_path / name).exception)
    call = f"kerastl.evaluate(kerastl.load_run(RUN).model, kerastl.read_images({str(tmp_path / name)!r}))"
    assert f"{name} is a table. To score its labeled images, in Python: {call}." in message
    assert ("--list FILE" in message) == (name == "a.csv")


def test_a_folder_without_images_names_its_files(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.txt").write_text("x")
    result = predict(run_folder, tmp_path / "photos")
    assert "No images found" in str(result.exception)
    assert "1 .txt: a.txt" in str(result.exception)


def test_16_bit_images_of_a_model_without_a_window_are_reported(
    run_folder: Path, images: list[Path], tmp_path: Path
) -> None:
    assert "16 bits" not in predict(run_folder, *images).stderr
    described = json.loads((run_folder / "model.json").read_text())
    (run_folder / "model.json").write_text(json.dumps(described | {"window": None}))
    assert "the model has no window for 4 16-bit files" in predict(run_folder, *images).stderr
    eight_bit = [path for path in images if "deep" not in path.name]
    assert "16 bits" not in predict(run_folder, *eight_bit).stderr


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        ({"": 1}, "Predicted 0 of 1 file (1 could not be read)."), ({"cat": 2}, "Predicted 2 of 2 files: 2 cat."),
        ({"": 1, "cat": 1}, "Predicted 1 of 2 files (1 could not be read): 1 cat."),
    ],
)  # fmt: skip
def test_the_last_line_counts_files_by_class(counts: dict[str, int], line: str, capsys: Any) -> None:
    print_counts(Counter(counts), Path("out.csv"))
    assert capsys.readouterr().out.splitlines()[0] == line

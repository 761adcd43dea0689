"""A table that is written batch by batch: resumed after any interruption, never mixed with another request. No TensorFlow."""

import dataclasses
import errno
import importlib.util
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from kerastl.errors import Problems, RequestError, RunFailed
from kerastl.export import FilePrediction, predict_table
from kerastl.export.predict import map_ahead
from kerastl.export.predict_table import TableRequest, check_output, columns, format_rows, open_partial_table
from kerastl.runs import csv_line

CLASSES = ("a", "line\nbreak")
IDENTITY = {"model_version": "3", "model_sha256": "0f" * 32}
REQUEST = TableRequest("model", "files", 6, 2, "csv", {"keras": "3"})
PREDICTIONS = [
    FilePrediction("0.png", "a", (0.75, 0.25)),
    FilePrediction("1.png", "line\nbreak", (0.25, 0.75)),
    FilePrediction("2,.png", problem="it is empty"),
    FilePrediction("3.png", "line\nbreak", (1 / 3, 2 / 3)),
    FilePrediction("4.png", "a", (1.0, 0.0)),
    FilePrediction("5.png", "a", (0.5, 0.5)),
]
HEADERS = {"csv": csv_line(columns(CLASSES)), "json": ""}


class Interrupted(Exception):
    """Represents anything that ends a command."""


def write_batches(out: Path, request: TableRequest, stop: int | None, *, resume: bool) -> int:
    """Write batches up to a number of files. Return the number of unreadable files of the whole table."""
    row_format = request.table_format
    with open_partial_table(out, request, HEADERS[row_format], resume=resume) as table:
        for start in range(table.num_rows, len(PREDICTIONS), 2):
            if start == stop:
                raise Interrupted
            batch = PREDICTIONS[start : start + 2]
            text = format_rows(row_format, batch, CLASSES, IDENTITY)
            table.append(text, Counter(row.predicted for row in batch))
        (table.folder / "rows").replace(out)
        shutil.rmtree(table.folder)
        return table.counts[""]


def interrupt(out: Path, stop: int, *, resume: bool = False, request: TableRequest = REQUEST) -> Path:
    with pytest.raises(Interrupted):
        write_batches(out, request, stop, resume=resume)
    return out.with_name(f"{out.name}.part")


def test_a_read_only_folder_is_refused_before_images_are_searched(tmp_path: Path, monkeypatch) -> None:
    # Root may write to every folder, except on a read-only disk.
    monkeypatch.setattr(predict_table.os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(RequestError, match=r"cannot be written\. Choose another: --out FILE"):
        check_output(tmp_path / "t.csv", resume=False)


@pytest.mark.parametrize("row_format", ["csv", "json"])
def test_a_table_cut_at_any_byte_resumes_to_the_same_bytes_or_is_refused(
    tmp_path: Path, row_format: str
) -> None:
    """A killed process can leave half a line or half a batch, also inside a quoted line break."""
    request = dataclasses.replace(REQUEST, table_format=row_format)
    whole = (HEADERS[row_format] + format_rows(row_format, PREDICTIONS, CLASSES, IDENTITY)).encode()
    folder = interrupt(tmp_path / "whole", 4, request=request)
    complete = len((folder / "rows").read_bytes())
    assert len(HEADERS[row_format]) < complete < len(whole)
    for length in (*range(complete, len(whole), 9), len(whole)):
        out = tmp_path / f"{length}"
        shutil.copytree(folder, tmp_path / f"{length}.part")
        (tmp_path / f"{length}.part" / "rows").write_bytes(whole[:length])
        assert write_batches(out, request, None, resume=True) == 1
        assert out.read_bytes() == whole
    for length in range(0, complete, 9):
        # Rows that were flushed to disk can only be missing if the file was damaged.
        (folder / "rows").write_bytes(whole[:length])
        with pytest.raises(RequestError, match="damaged: rows was changed"):
            write_batches(tmp_path / "whole", request, None, resume=True)
        assert not (tmp_path / "whole").exists()


def test_a_command_without_predictions_leaves_no_file(tmp_path: Path) -> None:
    interrupt(tmp_path / "t.csv", 0)
    assert list(tmp_path.iterdir()) == []


def test_finished_rows_are_kept_and_not_overwritten(tmp_path: Path, capsys) -> None:
    out = tmp_path / "t.csv"
    folder = interrupt(out, 4)
    error = capsys.readouterr().err
    assert "The predictions for 4 of 6 files are kept" in error
    assert "--resume" in error
    before = (folder / "rows").read_bytes()
    with pytest.raises(RequestError, match="--resume"):
        write_batches(out, REQUEST, None, resume=False)
    assert (folder / "rows").read_bytes() == before


KILLED_BEFORE_THE_FIRST_ROW = [
    None,
    {},
    {"lock": ""},
    {"rows": ""},
    {"rows": "pa", ".progress.ab12cd34.part.json": "{"},
]


@pytest.mark.parametrize("left", KILLED_BEFORE_THE_FIRST_ROW)
def test_a_table_that_was_killed_before_its_first_row_is_started(tmp_path: Path, left: dict | None) -> None:
    out, folder = tmp_path / "t.csv", tmp_path / "t.csv.part"
    if left is not None:
        folder.mkdir()
        for name, content in left.items():
            (folder / name).write_text(content)
    write_batches(out, REQUEST, None, resume=True)
    assert out.read_bytes() == (HEADERS["csv"] + format_rows("csv", PREDICTIONS, CLASSES, IDENTITY)).encode()
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]
    with pytest.raises(RequestError, match="nothing to resume"):
        write_batches(out, REQUEST, None, resume=True)


def test_a_folder_with_other_files_is_not_resumed(tmp_path: Path) -> None:
    note = tmp_path / "t.csv.part" / "note.txt"
    note.parent.mkdir()
    note.write_text("mine")
    with pytest.raises(RequestError, match="other files"):
        write_batches(tmp_path / "t.csv", REQUEST, None, resume=True)
    assert [path.name for path in note.parent.iterdir()] == ["note.txt"]


def test_a_version_that_was_renamed_is_refused_because_the_version_is_in_each_row(tmp_path: Path) -> None:
    out, first = tmp_path / "t.csv", dataclasses.replace(REQUEST, model_version="1")
    interrupt(out, 2, request=first)
    with pytest.raises(Problems, match="model_version: was 1, is 3") as refused:
        write_batches(out, dataclasses.replace(REQUEST, model_version="3"), None, resume=True)
    assert "the model changed" not in str(refused.value)
    assert write_batches(out, first, None, resume=True) == 1


def test_another_request_is_refused_with_all_differences(tmp_path: Path) -> None:
    out = tmp_path / "t.csv"
    folder = interrupt(out, 2)
    before = (folder / "rows").read_bytes()
    other = TableRequest("another", "others", 7, 3, "json", {"keras": "4"}, "2")
    with pytest.raises(Problems) as refused:
        write_batches(out, other, None, resume=True)
    expected = (
        "the model", "7 files now, 6 before", "was 2, is 3", "json", "was 3, is 4", "model_version: was empty, is 2",
    )  # fmt: skip
    assert all(words in str(refused.value) for words in expected)
    with pytest.raises(Problems, match="in a different order"):
        write_batches(out, dataclasses.replace(REQUEST, files="reversed"), None, resume=True)
    assert (folder / "rows").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows", "path"),
        ("rows", HEADERS["csv"] + "0.png,a,,1,0\n" * 8),
        ("rows", HEADERS["csv"] + "0.png\n1.png\n"),
        ("progress.json", "{"),
        ("progress.json", "{}"),
        ("progress.json", "[]"),
        ("progress.json", "[" * 100_000),
    ],
    ids=["no header", "more rows than files", "short rows", "torn", "empty", "a list", "deep"],
)
def test_a_damaged_table_is_refused(tmp_path: Path, name: str, content: str) -> None:
    out = tmp_path / "t.csv"
    folder = interrupt(out, 2)
    (folder / name).write_text(content)
    with pytest.raises(RequestError, match="damaged"):
        write_batches(out, REQUEST, None, resume=True)
    assert not out.exists()


def test_two_commands_never_write_the_same_table(tmp_path: Path) -> None:
    out = tmp_path / "t.csv"
    interrupt(out, 2)
    with (
        open_partial_table(out, REQUEST, HEADERS["csv"], resume=True) as table,
        pytest.raises(RequestError, match="another process"),
    ):
        write_batches(out, REQUEST, None, resume=True)
    assert table.num_rows == 2


def test_a_disk_error_names_the_folder_and_keeps_the_rows(tmp_path: Path, monkeypatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    out = tmp_path / "t.csv"
    first, second = (format_rows("csv", PREDICTIONS[i : i + 2], CLASSES, IDENTITY) for i in (0, 2))
    with ExitStack() as stack:
        opened = open_partial_table(out, REQUEST, HEADERS["csv"], resume=False)
        table = stack.enter_context(opened)
        table.append(first, Counter("ab"))
        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(RunFailed, match=r"t\.csv\.part cannot be written: No space left"):
            table.append(second, Counter(["", "a"]))
        monkeypatch.undo()
    write_batches(out, REQUEST, None, resume=True)
    whole = HEADERS["csv"] + format_rows("csv", PREDICTIONS, CLASSES, IDENTITY)
    assert out.read_bytes() == whole.encode()


@pytest.mark.parametrize("name", ["rows", "lock", "progress.json"])
def test_a_link_in_the_part_folder_is_not_followed(tmp_path: Path, name: str) -> None:
    """Otherwise anyone with write access to the folder could truncate any file of the user."""
    out = tmp_path / "t.csv"
    folder = interrupt(out, 4)
    victim = tmp_path / "victim"
    victim.write_text("content\n" * 99)
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(victim)
    with pytest.raises(RequestError, match="is a link"):
        write_batches(out, REQUEST, None, resume=True)
    assert victim.read_text() == "content\n" * 99


@pytest.mark.parametrize("out", ["/", "", "."])
def test_the_output_must_be_a_file_name(out: str) -> None:
    with pytest.raises(RequestError, match="is a folder"):
        check_output(Path(out), resume=False)


ROWS = [
    FilePrediction("=1+1.png", "-b", (0.25, 0.1 + 0.2)),
    FilePrediction("x.png", problem="it is empty"),
    FilePrediction("y,\u2028.png", "a", (1 / 3, 1e-9)),
]


@pytest.mark.parametrize("cells", [5, 10**6])
def test_parquet_holds_unquoted_text_and_all_digits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cells: int
) -> None:
    import pyarrow.parquet as pq

    monkeypatch.setattr(predict_table, "CELLS_PER_GROUP", cells)
    (tmp_path / "rows").write_text(format_rows("json", ROWS, ("a", "-b"), IDENTITY), encoding="utf-8")
    predict_table.write_parquet(tmp_path / "rows", tmp_path / "t.parquet", ("a", "-b"))
    assert pq.ParquetFile(tmp_path / "t.parquet").num_row_groups == (3 if cells == 5 else 1)
    table = pq.read_table(tmp_path / "t.parquet")
    assert table.column("path").to_pylist() == ["=1+1.png", "x.png", "y,\u2028.png"]
    assert table.column("predicted").to_pylist() == ["-b", None, "a"]
    assert table.column("problem").to_pylist() == [None, "it is empty", None]
    assert table.column("confidence").to_pylist() == [np.float32(0.1 + 0.2), None, np.float32(1 / 3)]
    last = table.column("prob_-b").to_pylist()
    assert last == [np.float32(0.1 + 0.2), None, np.float32(1e-9)]
    assert str(table.schema.field("prob_a").type) == "float"
    assert table.column_names == columns(("a", "-b"))
    assert table.column("model_version").to_pylist() == ["3"] * 3
    assert table.column("model_sha256").to_pylist() == [IDENTITY["model_sha256"]] * 3


def test_csv_quotes_formulas_and_json_keeps_all_digits() -> None:
    text = csv_line(columns(("a", "-b"))) + format_rows("csv", ROWS, ("a", "-b"), IDENTITY)
    assert text.splitlines()[:2] == [
        "path,predicted,confidence,problem,prob_a,prob_-b,model_version,model_sha256",
        f"'=1+1.png,'-b,0.3,,0.25,0.3,3,{IDENTITY['model_sha256']}",
    ]
    assert text.splitlines()[2] == f"x.png,,,it is empty,,,3,{IDENTITY['model_sha256']}"
    first = json.loads(format_rows("json", ROWS[:1], ("a", "-b"), IDENTITY))
    assert first == {
        "path": "=1+1.png",
        "predicted": "-b",
        "confidence": 0.1 + 0.2,
        "probabilities": {"a": 0.25, "-b": 0.1 + 0.2},
        **IDENTITY,
    }


def test_parquet_without_pyarrow_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(RequestError, match=r"pip install 'kerastl\[parquet\]'"):
        predict_table.check_parquet()


def test_batches_are_mapped_in_order_and_fetched_on_demand() -> None:
    fetched = 0

    def endless() -> Iterator[int]:
        nonlocal fetched
        while True:
            fetched += 1
            yield fetched

    squares = map_ahead(lambda batch: batch * batch, endless())
    assert [next(squares) for _ in range(5)] == [1, 4, 9, 16, 25]
    assert fetched <= 5 + 2
    squares.close()

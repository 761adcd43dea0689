"""A table that grows: gone on with after any stop, never mixed with what something else asked. No TensorFlow."""

import dataclasses
import errno
import importlib.util
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from kerastl.errors import Problems, RequestError, RunFailed
from kerastl.export.predicting import parquet
from kerastl.export.predicting.answering import Answer, in_order
from kerastl.export.predicting.part import Part, Question, check_free, finish, open_part
from kerastl.export.predicting.rows import header, rows
from kerastl.export.predicting.work import Answered

ASKED = Question("model", "files", 6, 2, "csv", {"keras": "3"})
BATCHES = [
    Answered("a,1\nb,2\n", 2),
    Answered('"c\nd",3\ne,\n', 2, (("e", "it is empty"),)),
    Answered("f,4\ng,5\n", 2),
]
WHOLE = "path,x\n" + "".join(batch.text for batch in BATCHES)


class Stopped(Exception):
    """Stands for whatever ends a command."""


def write_some(out: Path, batches: int, *, resume: bool) -> None:
    with open_part(out, ASKED, "path,x\n", resume=resume) as part:
        first = part.done.num_files // 2
        for batch in BATCHES[first : first + batches]:
            part.append(batch)
        raise Stopped


def stop_after(out: Path, batches: int, *, resume: bool = False) -> Path:
    """Write some batches as a command that is stopped then; return the folder."""
    with pytest.raises(Stopped):
        write_some(out, batches, resume=resume)
    return out.with_name("t.csv.part")


def go_on(out: Path, asked: Question = ASKED) -> Part:
    with open_part(out, asked, "path,x\n", resume=True) as part:
        for batch in BATCHES[part.done.num_files // 2 :]:
            part.append(batch)
        finish(part, part.rows, out)
    return part


@pytest.mark.parametrize("torn", [b"", b"f,4", b"f,4\ng,5\n"], ids=["none", "half", "rows"])
def test_a_table_that_was_stopped_ends_as_one_that_was_not(tmp_path: Path, torn: bytes) -> None:
    """Torn: what reached the file behind the last whole batch before the process was killed."""
    out = tmp_path / "t.csv"
    folder = stop_after(out, 1)
    stop_after(out, 1, resume=True)
    with (folder / "rows").open("ab") as file:
        file.write(torn)
    with (folder / "progress").open("ab") as file:
        file.write(b"6 1")
    part = go_on(out)
    assert out.read_text() == WHOLE
    assert part.done.num_bad == 1
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_a_command_that_answered_nothing_leaves_nothing(tmp_path: Path) -> None:
    stop_after(tmp_path / "t.csv", 0)
    assert list(tmp_path.iterdir()) == []


def test_what_was_begun_is_told_about_and_left(tmp_path: Path, capsys) -> None:
    out = tmp_path / "t.csv"
    folder = stop_after(out, 2)
    assert "The answers for 4 of 6 files are kept" in capsys.readouterr().err
    before = (folder / "rows").read_bytes()
    with (
        pytest.raises(RequestError, match="--resume"),
        open_part(out, ASKED, "path,x\n", resume=False),
    ):
        pass
    assert (folder / "rows").read_bytes() == before
    with (
        pytest.raises(RequestError, match="to go on with"),
        open_part(tmp_path / "other.csv", ASKED, "", resume=True),
    ):
        pass


def test_something_else_is_not_mixed_in_and_all_differences_are_told(tmp_path: Path) -> None:
    out = tmp_path / "t.csv"
    folder = stop_after(out, 1)
    before = (folder / "rows").read_bytes()
    other = Question("another", "others", 7, 3, "json", {"keras": "4"})
    with pytest.raises(Problems) as refused:
        go_on(out, other)
    told = str(refused.value)
    for words in ("another model", "7 files now, 6 then", "was 2, is 3", "json", "was 3, is 4"):
        assert words in told
    with pytest.raises(Problems, match="in another order"):
        go_on(out, dataclasses.replace(ASKED, files="turned"))
    assert (folder / "rows").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "content"),
    [("rows", b"path"), ("progress", b""), ("question.json", b"{"), ("question.json", b"{}")],
)
def test_a_damaged_part_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    folder = stop_after(tmp_path / "t.csv", 1)
    (folder / name).write_bytes(content)
    with pytest.raises(RequestError, match="damaged"):
        go_on(tmp_path / "t.csv")


def test_two_commands_never_write_one_table(tmp_path: Path) -> None:
    out = tmp_path / "t.csv"
    stop_after(out, 1)
    with (
        open_part(out, ASKED, "path,x\n", resume=True) as part,
        pytest.raises(RequestError, match="another process"),
    ):
        go_on(out)
    assert part.done.num_files == 2


def test_a_table_that_appeared_meanwhile_is_left(tmp_path: Path) -> None:
    out = tmp_path / "t.csv"
    stop_after(out, 1)
    with (
        open_part(out, ASKED, "path,x\n", resume=True) as part,
        pytest.raises(RequestError, match="meanwhile"),
    ):
        finish(part, part.rows, tmp_path)
    assert (tmp_path / "t.csv.part" / "rows").read_text() == "path,x\na,1\nb,2\n"


def test_an_error_of_the_disk_names_the_folder(tmp_path: Path, monkeypatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    out = tmp_path / "t.csv"
    with ExitStack() as stack:
        part = stack.enter_context(open_part(out, ASKED, "path,x\n", resume=False))
        part.append(BATCHES[0])
        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(RunFailed, match=r"t\.csv\.part cannot be written: No space left"):
            part.append(BATCHES[1])
        monkeypatch.undo()
    go_on(out)
    assert out.read_text() == WHOLE


ANSWERS = [
    Answer("=1+1.png", "-b", (0.25, 0.1 + 0.2)),
    Answer("x.png", problem="it is empty"),
    Answer("y,\u2028.png", "a", (1 / 3, 1e-9)),
]


@pytest.mark.parametrize("cells", [5, 10**6])
def test_parquet_holds_texts_as_they_are_and_every_digit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cells: int
) -> None:
    import pyarrow.parquet as pq

    monkeypatch.setattr(parquet, "CELLS_A_GROUP", cells)
    (tmp_path / "rows").write_text(rows("json", ANSWERS, ("a", "-b")), encoding="utf-8")
    parquet.write_parquet(tmp_path / "rows", tmp_path / "t.parquet", ("a", "-b"))
    assert pq.ParquetFile(tmp_path / "t.parquet").num_row_groups == (3 if cells == 5 else 1)
    table = pq.read_table(tmp_path / "t.parquet")
    assert table.column("path").to_pylist() == ["=1+1.png", "x.png", "y,\u2028.png"]
    assert table.column("predicted").to_pylist() == ["-b", None, "a"]
    assert table.column("problem").to_pylist() == [None, "it is empty", None]
    last = table.column("prob_-b").to_pylist()
    assert last == [np.float32(0.1 + 0.2), None, np.float32(1e-9)]
    assert str(table.schema.field("prob_a").type) == "float"


def test_csv_quotes_what_a_spreadsheet_would_run() -> None:
    text = header("csv", ("a", "-b")) + rows("csv", ANSWERS, ("a", "-b"))
    assert text.splitlines()[:2] == [
        "path,predicted,problem,prob_a,prob_-b",
        "'=1+1.png,'-b,,0.25,0.3",
    ]
    first = json.loads(rows("json", ANSWERS[:1], ("a", "-b")))
    assert first == {
        "path": "=1+1.png",
        "predicted": "-b",
        "probabilities": {"a": 0.25, "-b": 0.1 + 0.2},
    }


def test_parquet_without_pyarrow_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(RequestError, match=r"pip install 'kerastl\[parquet\]'"):
        parquet.check_parquet()


def test_batches_are_answered_in_order_and_taken_as_they_are_needed() -> None:
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    answers = in_order(lambda batch: batch * batch, endless())
    assert [next(answers) for _ in range(5)] == [1, 4, 9, 16, 25]
    assert taken <= 5 + 2
    answers.close()


@pytest.mark.parametrize("name", ["rows", "lock", "progress", "question.json"])
def test_a_link_in_a_part_is_not_followed(tmp_path: Path, name: str) -> None:
    """Whoever may write beside a table could else have any file of its owner cut off."""
    folder = stop_after(tmp_path / "t.csv", 2)
    victim = tmp_path / "victim"
    victim.write_text("mine\n" * 99)
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(victim)
    with pytest.raises(RequestError, match="is a link"):
        stop_after(tmp_path / "t.csv", 1, resume=True)
    assert victim.read_text() == "mine\n" * 99


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("progress", "8 23 0\n"),
        ("progress", "1 11 0\n"),
        ("progress", "2 14 0\n"),
        ("question.json", "[" * 100_000),
        ("question.json", "[]"),
    ],
    ids=["more than asked", "half a batch", "half a row", "deep", "a list"],
)
def test_a_part_that_was_edited_becomes_no_table(tmp_path: Path, name: str, content: str) -> None:
    folder = stop_after(tmp_path / "t.csv", 2)
    (folder / name).write_text(content)
    with pytest.raises(RequestError, match="is damaged"):
        go_on(tmp_path / "t.csv")
    assert not (tmp_path / "t.csv").exists()


@pytest.mark.parametrize("out", ["/", "", "."])
def test_a_table_needs_a_name(out: str) -> None:
    with pytest.raises(RequestError, match="not a file"):
        check_free(Path(out), resume=False)

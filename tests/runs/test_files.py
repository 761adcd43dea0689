import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerastl.errors import RequestError
from kerastl.runs import append_line, read_csv, remove_partial_files, atomic_path, write_atomic, write_csv, write_json

CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@given(st.lists(st.tuples(CELLS, CELLS)))
def test_every_text_comes_back_from_a_table(rows):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "t.csv"
        write_csv(file, ("a", "b"), rows)
        assert [(row["a"], row["b"]) for row in read_csv(file)] == rows


def test_a_line_break_within_a_cell_is_quoted_and_ends_no_row(tmp_path):
    """To the byte: Python before 3.13 left the first of these cells bare."""
    write_csv(tmp_path / "t.csv", ("path", "n"), [("a\rb.png", 1), ("a\nb", 2), ("plain", 3)])
    assert (tmp_path / "t.csv").read_bytes() == b'path,n\n"a\rb.png",1\n"a\nb",2\nplain,3\n'


@pytest.mark.parametrize("text", ["=1+1", "+1", "-cmd", "@x", "\tx"])
def test_no_cell_begins_as_a_formula(text, tmp_path):
    write_csv(tmp_path / "t.csv", ("a",), [(text,)])
    cell = (tmp_path / "t.csv").read_text().splitlines()[1].strip('"')
    assert cell.startswith("'")


def test_numbers_are_left_alone(tmp_path):
    write_csv(tmp_path / "t.csv", ("a",), [(-1.5,)])
    assert (tmp_path / "t.csv").read_text() == "a\n-1.5\n"


def test_a_torn_row_is_named(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3\n")
    with pytest.raises(RequestError, match="row 3: 1 cells, the header has 2"):
        read_csv(tmp_path / "t.csv")


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    file = tmp_path / "f.json"
    write_json(file, {"old": 1})

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_json(file, {"new": 2})
    assert '"old"' in file.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["f.json"]


def test_not_a_number_is_no_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "f.json", {"a": float("nan")})


def test_a_log_goes_on_below_a_half_line(tmp_path):
    log = tmp_path / "log.jsonl"
    append_line(log, '{"epoch": 1}')
    with log.open("a") as file:
        file.write('{"epo')
    append_line(log, '{"epoch": "ü"}')
    append_line(log, '{"epoch": 3}')
    first, half, *rest = log.read_text(encoding="utf-8").split("\n")
    assert (first, half) == ('{"epoch": 1}', '{"epo')
    assert [json.loads(line)["epoch"] for line in rest[:-1]] == ["ü", 3]
    assert rest[-1] == ""


KILLED = """
import os, signal, sys
from pathlib import Path
from kerastl.runs import whole_file
with whole_file(Path(sys.argv[1])) as part:
    part.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_writer_leaves_is_swept_and_nothing_else(tmp_path):
    """By real kills: at the top, below it, and in an inner run that has a writer of its own."""
    mine = [".model.backup.keras", ".notes.personal", "part.csv", "a.part", "recipe.resolved.yaml"]
    inner, deep = tmp_path / "runs" / "scratch", tmp_path / "checkpoints"
    for folder in (inner, deep):
        folder.mkdir(parents=True)
    for place in [*(tmp_path / name for name in mine), inner / "recipe.resolved.yaml"]:
        place.write_text("mine")
    before = set(tmp_path.rglob("*"))
    for file in (tmp_path / "model.keras", deep / "epoch-00001.npz", inner / "scores.json"):
        subprocess.run([sys.executable, "-c", KILLED, file], check=False)
    half_export = tmp_path / "export" / "saved_model" / ".kerastl.ab12_xyz"
    half_export.mkdir(parents=True)
    (half_export / "saved_model.pb").write_text("half")
    assert len(set(tmp_path.rglob("*.part.*")) - before) == 3
    remove_partial_files(tmp_path, skip_folders_with="recipe.resolved.yaml")
    left = set(tmp_path.rglob("*")) - before
    assert {path.parent for path in left if path.is_file()} == {inner}
    assert not half_export.exists()
    assert before <= set(tmp_path.rglob("*"))


def test_a_file_is_on_disk_before_it_has_its_name(tmp_path, monkeypatch):
    file = tmp_path / "model.keras"
    seen = []
    flush = os.fsync

    def watched(descriptor):
        seen.append((os.fstat(descriptor).st_size, file.exists()))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    with atomic_path(file) as part:
        part.write_bytes(b"12345")
    assert seen == [(5, False)]
    assert file.read_bytes() == b"12345"
    write_atomic(tmp_path / "b.txt", "ü")
    assert seen[1:] == [(2, True)]


FULL = """
import resource, signal, sys
from pathlib import Path
from kerastl.runs import append_line, write_atomic

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
folder = Path(sys.argv[1])
for write in (lambda: write_atomic(folder / "state.npz", b"x" * 5000), lambda: append_line(folder / "log", "x" * 5000)):
    try:
        write()
    except OSError as error:
        print(error.errno, Path(error.filename).name)
"""


def test_a_disk_that_is_full_is_told_with_the_file_that_found_no_room(tmp_path):
    words = [sys.executable, "-c", FULL, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == f"{errno.EFBIG} state.npz\n{errno.EFBIG} log\n"
    assert [path.name for path in tmp_path.iterdir()] == ["log"]

"""Atomic files, CSV tables and logs."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kerastl.errors import RequestError
from kerastl.runs import (
    append_line,
    atomic_path,
    compare_hashes,
    hash_files,
    read_csv,
    remove_partial_files,
    write_atomic,
    write_csv,
    write_json,
)

CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


# Each example is flushed to the disk, and a busy machine is no reason to fail.
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(CELLS, CELLS)))
def test_csv_round_trip_keeps_any_text(rows):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "t.csv"
        write_csv(file, ("a", "b"), rows)
        assert [(row["a"], row["b"]) for row in read_csv(file)] == rows


def test_line_breaks_in_csv_cells_are_quoted(tmp_path):
    # Python before 3.13 does not quote the first of these cells.
    write_csv(tmp_path / "t.csv", ("path", "n"), [("a\rb.png", 1), ("a\nb", 2), ("plain", 3)])
    assert (tmp_path / "t.csv").read_bytes() == b'path,n\n"a\rb.png",1\n"a\nb",2\nplain,3\n'


@pytest.mark.parametrize("text", ["=1+1", "+1", "-cmd", "@x", "\tx"])
def test_formulas_in_csv_cells_are_quoted(text, tmp_path):
    write_csv(tmp_path / "t.csv", ("a",), [(text,)])
    cell = (tmp_path / "t.csv").read_text().splitlines()[1].strip('"')
    assert cell.startswith("'")


def test_negative_numbers_are_not_quoted(tmp_path):
    write_csv(tmp_path / "t.csv", ("a",), [(-1.5,)])
    assert (tmp_path / "t.csv").read_text() == "a\n-1.5\n"


def test_csv_row_of_wrong_length_is_reported_with_its_number(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3\n")
    with pytest.raises(RequestError, match="row 3"):
        read_csv(tmp_path / "t.csv")


@pytest.mark.parametrize("content", [None, b"\x80\x81,\xff\n", "a,b\n1,2\n".encode("utf-16")])
def test_a_missing_or_binary_csv_file_is_named(tmp_path, content):
    file = tmp_path / "t.csv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(RequestError, match=r"t\.csv"):
        read_csv(file)


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "f.json"
    write_json(file, {"old": 1})

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_json(file, {"new": 2})
    assert '"old"' in file.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["f.json"]


def test_nan_is_rejected_in_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "f.json", {"a": float("nan")})


def test_log_starts_a_new_line_after_an_incomplete_line(tmp_path):
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
from kerastl.runs import atomic_path
with atomic_path(Path(sys.argv[1])) as part:
    part.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_partial_files_of_killed_writers_are_removed_and_nothing_else(tmp_path):
    """Processes are killed while they write to a run, to a subfolder of it, and to a nested run."""
    unrelated = [".model.backup.keras", ".notes.personal", "part.csv", "a.part", "recipe.resolved.yaml"]
    nested_run, subfolder = tmp_path / "runs" / "scratch", tmp_path / "checkpoints"
    for folder in (nested_run, subfolder):
        folder.mkdir(parents=True)
    for path in [*(tmp_path / name for name in unrelated), nested_run / "recipe.resolved.yaml"]:
        path.write_text("user file")
    before = set(tmp_path.rglob("*"))
    for file in (tmp_path / "model.keras", subfolder / "epoch-00001.npz", nested_run / "scores.json"):
        subprocess.run([sys.executable, "-c", KILLED, file], check=False)
    partial_export = tmp_path / "export" / "saved_model" / ".kerastl.ab12_xyz"
    partial_export.mkdir(parents=True)
    (partial_export / "saved_model.pb").write_text("half")
    assert len(set(tmp_path.rglob("*.part.*")) - before) == 3
    remove_partial_files(tmp_path, skip_folders_with="recipe.resolved.yaml")
    remaining = set(tmp_path.rglob("*")) - before
    assert {path.parent for path in remaining if path.is_file()} == {nested_run}
    assert not partial_export.exists()
    assert before <= set(tmp_path.rglob("*"))


def test_content_is_flushed_before_the_rename(tmp_path, monkeypatch):
    file = tmp_path / "model.keras"
    flushed = []
    fsync = os.fsync

    def recording_fsync(descriptor):
        flushed.append((os.fstat(descriptor).st_size, file.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recording_fsync)
    with atomic_path(file) as part:
        part.write_bytes(b"12345")
    assert flushed == [(5, False)]
    assert file.read_bytes() == b"12345"
    write_atomic(tmp_path / "b.txt", "ü")
    assert flushed[1:] == [(2, True)]


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


def test_full_disk_error_names_the_file(tmp_path):
    command = [sys.executable, "-c", FULL, str(tmp_path)]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert process.stdout == f"{errno.EFBIG} state.npz\n{errno.EFBIG} log\n"
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_added_pipes_and_links_are_differences(tmp_path):
    (tmp_path / "model").write_text("x")
    hashes = hash_files(tmp_path)
    assert compare_hashes(tmp_path, hashes) == ""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "broken").symlink_to("missing")
    (tmp_path / "folder").mkdir()
    assert compare_hashes(tmp_path, hashes) == "broken was added; loop was added; pipe was added"
    (tmp_path / "model").unlink()
    os.mkfifo(tmp_path / "model")
    assert compare_hashes(tmp_path, hashes).startswith("model is missing; ")

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerastl.errors import RequestError
from kerastl.runs import Run, new_run, read_csv, unfinished_run, write_atomic, write_csv, write_json

CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=8)


@given(st.lists(st.tuples(CELLS, CELLS)))
def test_every_text_comes_back_from_a_table(rows):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "t.csv"
        write_csv(file, ("a", "b"), rows)
        assert [(row["a"], row["b"]) for row in read_csv(file)] == rows


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


def test_run_folders_count_up_and_are_never_shared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [new_run("flowers", None).path.name for _ in range(3)]
    assert names == ["flowers-1", "flowers-2", "flowers-3"]


def test_two_writers_do_not_share_a_folder(tmp_path):
    run = Run(tmp_path)
    with run.locked(), pytest.raises(RequestError, match="another process"), Run(tmp_path).locked():
        pass


def test_resume_finds_the_only_unfinished_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match="no unfinished run"):
        unfinished_run("flowers", None)
    first, second = new_run("flowers", None), new_run("flowers", None)
    for run in (first, second):
        write_atomic(run.file("recipe.resolved.yaml"), "format: 1\n")
    with pytest.raises(RequestError, match="Several runs"):
        unfinished_run("flowers", None)
    write_atomic(first.file("report.html"), "")
    assert unfinished_run("flowers", None).path == second.path

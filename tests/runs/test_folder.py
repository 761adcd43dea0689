"""Run folders: numbering, locking, resuming."""

import shlex
from pathlib import Path

import pytest

from kerastl.errors import RequestError
from kerastl.runs import Run, create_run, find_unfinished_run, write_atomic


def started_run(folder: str) -> Run:
    run = Run(Path(folder))
    run.path.mkdir(parents=True)
    write_atomic(run.file("recipe.resolved.yaml"), "format: 1\n")
    return run


def test_run_folders_are_numbered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [create_run("flowers", None).path.name for _ in range(3)]
    assert names == ["flowers-1", "flowers-2", "flowers-3"]


def test_run_folder_cannot_be_locked_twice(tmp_path):
    run = Run(tmp_path)
    with run.locked(), pytest.raises(RequestError), Run(tmp_path).locked():
        pass


def test_resume_selects_the_only_unfinished_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match="flowers"):
        find_unfinished_run("flowers", None)
    first, second = create_run("flowers", None), create_run("flowers", None)
    for run in (first, second):
        write_atomic(run.file("recipe.resolved.yaml"), "format: 1\n")
    with pytest.raises(RequestError, match=r"flowers-1.*flowers-2"):
        find_unfinished_run("flowers", None)
    first.finish()
    assert find_unfinished_run("flowers", None).path == second.path


def test_report_of_a_stopped_run_does_not_finish_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = started_run("runs/flowers-1")
    write_atomic(run.file("report.html"), "<p>so far</p>")
    assert find_unfinished_run("flowers", None).path == run.path
    run.finish()
    with pytest.raises(RequestError, match="flowers"):
        find_unfinished_run("flowers", None)


def test_finished_marker_has_the_same_bytes_in_all_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = started_run("runs/a-1"), started_run("elsewhere/b")
    for run in (first, second):
        assert not run.finished
        run.finish()
        assert run.finished
    assert first.file("finished.json").read_bytes() == second.file("finished.json").read_bytes()


def test_runs_of_a_recipe_with_a_longer_name_are_ignored(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other = started_run("runs/folder-classifier-2")
    started_run("runs/folder-²")
    with pytest.raises(RequestError, match="folder"):
        find_unfinished_run("folder", None)
    assert find_unfinished_run("folder-classifier", None).path == other.path
    assert create_run("folder", None).path.name == "folder-1"
    assert create_run("folder-classifier", None).path.name == "folder-classifier-3"


@pytest.mark.parametrize("name", ["[a]", "a*", "a?b", "(x", "ü +"])
def test_recipe_names_with_special_characters_are_numbered_and_resumed(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    started_run("runs/a-7")
    first, second = create_run(name, None), create_run(name, None)
    assert (first.path.name, second.path.name) == (f"{name}-1", f"{name}-2")
    write_atomic(second.file("recipe.resolved.yaml"), "format: 1\n")
    assert find_unfinished_run(name, None).path == second.path


def test_runs_are_sorted_by_number(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in (9, 10):
        started_run(f"runs/a-{number}")
    with pytest.raises(RequestError, match=r"a-9.*a-10"):
        find_unfinished_run("a", None)
    assert create_run("a", None).path.name == "a-11"


def test_error_for_an_existing_folder_has_a_resume_command_only_if_resumable(tmp_path):
    run = started_run(str(tmp_path / "my run"))
    with pytest.raises(RequestError, match="--resume") as error:
        create_run("a", run.path)
    words = shlex.split(str(error.value).splitlines()[-1].partition("kerastl")[2])
    assert words == ["run", str(run.file("recipe.resolved.yaml")), "--resume", "--out", str(run.path)]
    run.finish()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("")
    for taken in (run.path, tmp_path / "mine"):
        with pytest.raises(RequestError, match=str(taken)) as error:
            create_run("a", taken)
        assert "--resume" not in str(error.value)

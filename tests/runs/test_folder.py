import shlex
from pathlib import Path

import pytest

from kerastl.errors import RequestError
from kerastl.runs import Run, create_run, find_unfinished_run, write_atomic


def begun(folder: str) -> Run:
    run = Run(Path(folder))
    run.path.mkdir(parents=True)
    write_atomic(run.file("recipe.resolved.yaml"), "format: 1\n")
    return run


def test_run_folders_count_up_and_are_never_shared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [create_run("flowers", None).path.name for _ in range(3)]
    assert names == ["flowers-1", "flowers-2", "flowers-3"]


def test_two_writers_do_not_share_a_folder(tmp_path):
    run = Run(tmp_path)
    with run.locked(), pytest.raises(RequestError, match="another process"), Run(tmp_path).locked():
        pass


def test_resume_finds_the_only_unfinished_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match="no unfinished run"):
        find_unfinished_run("flowers", None)
    first, second = create_run("flowers", None), create_run("flowers", None)
    for run in (first, second):
        write_atomic(run.file("recipe.resolved.yaml"), "format: 1\n")
    with pytest.raises(RequestError, match="Several runs"):
        find_unfinished_run("flowers", None)
    first.finish()
    assert find_unfinished_run("flowers", None).path == second.path


def test_a_page_about_a_stopped_run_does_not_finish_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = begun("runs/flowers-1")
    write_atomic(run.file("report.html"), "<p>so far</p>")
    assert find_unfinished_run("flowers", None).path == run.path
    run.finish()
    with pytest.raises(RequestError, match="no unfinished run"):
        find_unfinished_run("flowers", None)


def test_finished_runs_are_marked_with_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one, two = begun("runs/a-1"), begun("elsewhere/b")
    for run in (one, two):
        assert not run.finished
        run.finish()
        assert run.finished
    assert one.file("finished.json").read_bytes() == two.file("finished.json").read_bytes()


def test_a_run_of_a_recipe_with_a_longer_name_is_another_recipes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other = begun("runs/folder-classifier-2")
    begun("runs/folder-²")
    with pytest.raises(RequestError, match="no unfinished run of folder "):
        find_unfinished_run("folder", None)
    assert find_unfinished_run("folder-classifier", None).path == other.path
    assert create_run("folder", None).path.name == "folder-1"
    assert create_run("folder-classifier", None).path.name == "folder-classifier-3"


@pytest.mark.parametrize("name", ["[a]", "a*", "a?b", "(x", "ü +"])
def test_any_name_of_a_file_counts_and_resumes(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    begun("runs/a-7")
    first, second = create_run(name, None), create_run(name, None)
    assert (first.path.name, second.path.name) == (f"{name}-1", f"{name}-2")
    write_atomic(second.file("recipe.resolved.yaml"), "format: 1\n")
    assert find_unfinished_run(name, None).path == second.path


def test_the_tenth_run_comes_after_the_ninth(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in (9, 10):
        begun(f"runs/a-{number}")
    with pytest.raises(RequestError, match=r"a-9,.*a-10\."):
        find_unfinished_run("a", None)
    assert create_run("a", None).path.name == "a-11"


def test_a_taken_folder_says_how_to_go_on_only_where_one_can(tmp_path):
    run = begun(str(tmp_path / "my run"))
    with pytest.raises(RequestError, match="--resume") as told:
        create_run("a", run.path)
    words = shlex.split(str(told.value).splitlines()[-1].partition("kerastl")[2])
    assert words == ["run", str(run.file("recipe.resolved.yaml")), "--resume", "--out", str(run.path)]
    run.finish()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("")
    for taken in (run.path, tmp_path / "mine"):
        with pytest.raises(RequestError, match="never overwrites") as told:
            create_run("a", taken)
        assert "--resume" not in str(told.value)

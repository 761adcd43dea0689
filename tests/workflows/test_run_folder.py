"""Open, interrupt and finish run folders: which files are kept and removed, and what is printed."""

import shlex
from pathlib import Path

import pytest

from kerastl.errors import RequestError, RunFailed
from kerastl.runs import RESOLVED_RECIPE, VERSIONS, Run
from kerastl.workflows.run_writer import open_run

RECIPE = "format: 1\n"


def fail(out, error, *, write):
    """Open a run, write something, and raise an error."""
    with open_run("flowers", out, RECIPE, resume=False) as run:
        write(run)
        raise error


def refuse(out):
    """Refuse a run after images were converted."""

    def convert(run):
        run.file("converted").mkdir()
        (run.file("converted") / "a.png").write_text("")

    with pytest.raises(RequestError, match="wrong"):
        fail(out, RequestError("wrong"), write=convert)


def test_an_existing_folder_is_emptied_and_kept(tmp_path):
    out = tmp_path / "mine"
    out.mkdir()
    refuse(out)
    assert list(tmp_path.rglob("*")) == [out]


def test_created_folders_of_a_refused_run_are_removed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kept").mkdir()
    refuse(tmp_path / "kept" / "a" / "b" / "c")
    refuse(Path("d/e"))
    refuse(None)
    assert list(tmp_path.rglob("*")) == [tmp_path / "kept"]


def test_a_parent_folder_with_other_files_is_kept(tmp_path):
    other = tmp_path / "p" / "other.txt"
    with pytest.raises(RunFailed):
        fail(other.parent / "run", RunFailed(""), write=lambda run: other.write_text("theirs"))
    assert list(other.parent.iterdir()) == [other]


def test_a_process_without_the_lock_removes_nothing(tmp_path, monkeypatch):
    """Two processes can find the folder empty at the same time. The second must not remove files of the first."""
    first_run = Run(tmp_path / "run")
    first_run.path.mkdir()
    monkeypatch.setattr("kerastl.runs.create_run", lambda name, out: Run(out))
    with first_run.locked():
        first_run.file("converted").mkdir()
        with pytest.raises(RequestError), open_run("a", first_run.path, RECIPE, resume=False):
            pass
        assert first_run.file("converted").is_dir()


def interrupt(out, error):
    """Interrupt a run after it started."""
    with pytest.raises(type(error)):
        fail(out, error, write=lambda run: run.write_json(VERSIONS, {}))
    return Run(out)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RunFailed("NaN"), OSError(28, "full")])
def test_an_interrupted_run_is_kept_and_prints_the_command_to_resume_it(tmp_path, capsys, error):
    run = interrupt(tmp_path / "a run", error)
    _, _, command = capsys.readouterr().err.partition("To resume: ")
    words = shlex.split(command)
    assert words == ["kerastl", "run", str(run.file(RESOLVED_RECIPE)), "--resume", "--out", str(run.path)]
    assert Path(words[2]).read_text() == "format: 1\n"


def test_a_refused_run_prints_no_command_to_resume_it(tmp_path, capsys):
    assert interrupt(tmp_path / "run", RequestError("wrong")).file(RESOLVED_RECIPE).is_file()
    assert "resume" not in capsys.readouterr().err


def test_resuming_removes_partial_files_of_a_killed_run(tmp_path):
    run = interrupt(tmp_path / "run", KeyboardInterrupt())
    partial_files = [run.file(".model.ab12cd34.part.keras"), run.file(".split.ab12cd34.part.csv")]
    for file in partial_files:
        file.write_text("half")
    with open_run("flowers", run.path, "another", resume=True) as again:
        assert again.path == run.path
        assert not any(file.exists() for file in partial_files)
        assert run.file(RESOLVED_RECIPE).read_text() == RECIPE


@pytest.mark.parametrize(
    "left",
    [
        None,
        [],
        [".lock"],
        [".lock", ".recipe.resolved.ab12cd34.part.yaml"],
        [RESOLVED_RECIPE],
        [
            RESOLVED_RECIPE,
            "CONFIDENTIAL.txt",
            "split.csv",
            "notes.json",
            ".versions.ab12cd34.part.json",
            "note",
        ],
    ],
)
def test_a_run_that_was_killed_before_it_started_is_started(tmp_path, monkeypatch, capsys, left):
    monkeypatch.chdir(tmp_path)
    for path, out in (("runs/flowers-1", None), ("mine", Path("mine"))):
        run = Run(Path(path))
        if left is not None:
            run.path.mkdir(parents=True)
            for name in left:
                run.file(name).write_text("half")
        elif out is None:
            continue  # no folder to find
        with open_run("flowers", out, RECIPE, resume=True) as opened:
            assert (opened.path, opened.started) == (run.path, False)
            assert run.file(RESOLVED_RECIPE).read_text() == RECIPE
            assert not list(run.path.glob("*.part.*"))
            opened.write_json(VERSIONS, {})
        assert "nothing to resume. Starting" in capsys.readouterr().err
        assert run.file("note").exists() == ("note" in (left or [])), "files of the user are kept"


def test_a_refused_start_keeps_the_files_of_a_killed_run(tmp_path):
    note = tmp_path / "note.txt"
    note.write_text("mine")
    Run(tmp_path).file(RESOLVED_RECIPE).write_text("old")
    with pytest.raises(RequestError), open_run("flowers", tmp_path, RECIPE, resume=True):
        raise RequestError("wrong")
    assert note.read_text() == "mine"


def test_a_folder_with_other_files_is_not_resumed(tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(RequestError, match=RESOLVED_RECIPE), open_run("a", tmp_path, RECIPE, resume=True):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_a_finished_run_is_not_opened_again(tmp_path):
    run = interrupt(tmp_path / "run", KeyboardInterrupt())
    run.finish()
    with pytest.raises(RequestError, match=str(run.path)), open_run("flowers", run.path, RECIPE, resume=True):
        pass
    assert run.file(RESOLVED_RECIPE).is_file()


def test_a_run_that_another_process_finishes_before_the_lock_is_not_opened_again(tmp_path, monkeypatch):
    interrupt(tmp_path / "run", KeyboardInterrupt())
    locked = Run.locked

    def finish_and_lock(run, *, resume):
        run.finish()
        return locked(run, resume=resume)

    monkeypatch.setattr(Run, "locked", finish_and_lock)
    with (
        pytest.raises(RequestError, match="nothing to resume"),
        open_run("flowers", tmp_path / "run", RECIPE, resume=True),
    ):
        pass


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_folder_that_cannot_be_created_is_a_problem_of_the_request(tmp_path, resume):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "missing" / "folder")
    for out, reason in {"link": "broken link", "file/run": "Not a directory"}.items():
        with (
            pytest.raises(RequestError, match=f"{out}: .*{reason}"),
            open_run("a", tmp_path / out, "", resume=resume),
        ):
            pytest.fail("it was created")

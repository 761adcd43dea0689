"""Opening, stopping and marking run folders: what is kept, what is taken away, what is said."""

import shlex
from pathlib import Path

import pytest

from kerastl.errors import RequestError, RunFailed
from kerastl.runs import RESOLVED_RECIPE, Run, write_atomic
from kerastl.workflows import finish_run, open_run, run_writer


def broken(out, error, *, write):
    """Open a run, write something, and break off."""
    with open_run("flowers", out, resume=False) as run:
        write(run)
        raise error


def refused(out):
    """Find, after images were converted, that the request is wrong."""

    def convert(run):
        run.file("converted").mkdir()
        (run.file("converted") / "a.png").write_text("")

    with pytest.raises(RequestError, match="wrong"):
        broken(out, RequestError("wrong"), write=convert)


def test_a_folder_that_a_person_made_stays_and_is_empty_again(tmp_path):
    out = tmp_path / "mine"
    out.mkdir()
    refused(out)
    assert list(tmp_path.rglob("*")) == [out]


def test_folders_that_were_made_for_a_wrong_request_are_taken_away(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kept").mkdir()
    refused(tmp_path / "kept" / "a" / "b" / "c")
    refused(Path("d/e"))
    refused(None)
    assert list(tmp_path.rglob("*")) == [tmp_path / "kept"]


def test_a_folder_above_that_others_use_by_now_stays(tmp_path):
    other = tmp_path / "p" / "other.txt"
    with pytest.raises(RunFailed):
        broken(other.parent / "run", RunFailed(""), write=lambda run: other.write_text("theirs"))
    assert list(other.parent.iterdir()) == [other]


def test_who_finds_the_folder_held_takes_nothing_away(tmp_path, monkeypatch):
    """Two processes may both have found it free; the second must not remove the first one's files."""
    held = Run(tmp_path / "run")
    held.path.mkdir()
    monkeypatch.setattr(run_writer, "create_run", lambda name, out: Run(out))
    with held.locked():
        held.file("converted").mkdir()
        with pytest.raises(RequestError), open_run("a", held.path, resume=False):
            pass
        assert held.file("converted").is_dir()


def stopped(out, error):
    """Break off a run that began."""
    with pytest.raises(type(error)):
        broken(out, error, write=lambda run: write_atomic(run.file(RESOLVED_RECIPE), "format: 1\n"))
    return Run(out)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RunFailed("NaN"), OSError(28, "full")])
def test_a_stopped_run_is_kept_and_names_a_whole_command(tmp_path, capsys, error):
    run = stopped(tmp_path / "a run", error)
    _, _, command = capsys.readouterr().err.partition("Go on with: ")
    words = shlex.split(command)
    assert words == ["kerastl", "run", str(run.file(RESOLVED_RECIPE)), "--resume", "--out", str(run.path)]
    assert Path(words[2]).read_text() == "format: 1\n"


def test_a_run_that_is_refused_is_not_told_to_go_on(tmp_path, capsys):
    assert stopped(tmp_path / "run", RequestError("wrong")).file(RESOLVED_RECIPE).is_file()
    assert "Go on" not in capsys.readouterr().err


def test_going_on_sweeps_what_a_kill_left(tmp_path):
    run = stopped(tmp_path / "run", KeyboardInterrupt())
    pieces = [run.file(".model.ab12cd34.part.keras"), run.file(".split.ab12cd34.part.csv")]
    for piece in pieces:
        piece.write_text("half")
    with open_run("flowers", run.path, resume=True) as again:
        assert again.path == run.path
        assert not any(piece.exists() for piece in pieces)
        assert run.file(RESOLVED_RECIPE).is_file()


def test_a_finished_run_is_not_opened_again(tmp_path):
    run = stopped(tmp_path / "run", KeyboardInterrupt())
    finish_run(run)
    with pytest.raises(RequestError, match=str(run.path)), open_run("flowers", run.path, resume=True):
        pass
    assert run.file(RESOLVED_RECIPE).is_file()


def test_the_end_marks_what_the_run_made_and_not_what_was_run_for_itself(tmp_path):
    run = Run(tmp_path)
    source_only, scratch = (Run(run.file("runs") / name) for name in ("source_only", "scratch"))
    for inner in (source_only, scratch):
        inner.path.mkdir(parents=True)
    write_atomic(scratch.file(RESOLVED_RECIPE), "format: 1\n")
    finish_run(run)
    assert (run.finished, source_only.finished, scratch.finished) == (True, True, False)
    assert run.file("finished.json").read_bytes() == source_only.file("finished.json").read_bytes()

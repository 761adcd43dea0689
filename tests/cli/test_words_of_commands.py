"""Output of the commands: help with an example, next commands that work, one line for an error."""

import errno
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from kerastl.cli import CommandGroup, _output, app, main
from kerastl.runs import Run
from tests.export.conftest import write_rows


def every_command(group: click.Group = app, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        words = (*above, name)
        yield words
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from every_command(command, words)


COMMANDS = list(every_command())


def test_every_file_of_the_folder_is_a_command_that_is_listed():
    folder = Path(_output.__file__).parent
    files = {path.stem.replace("_", "-") for path in folder.glob("*.py") if not path.stem.startswith("_")}
    assert len(files) > 10
    assert {words[0] for words in COMMANDS} == files
    assert ("weights", "fetch") in COMMANDS
    assert isinstance(app, CommandGroup)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_shows_an_example_that_can_be_typed(words):
    result = CliRunner().invoke(app, [*words, "--help"])
    assert result.exit_code == 0
    _, marker, examples = result.output.partition("Example")
    assert marker
    lines = re.findall(r"^ +kerastl (.+)$", examples, re.MULTILINE)
    assert any(line.startswith(" ".join(words)) for line in lines)
    for line in lines:
        _parse(shlex.split(line))


def _parse(words: list[str]) -> None:
    """Parse a command line as click would, without running it."""
    command: click.Command = app
    context = click.Context(app)
    while isinstance(command, click.Group):
        name, *words = words
        subcommand = command.get_command(context, name)
        assert subcommand, name
        command = subcommand
    command.make_context(command.name, words)


def outcome(capsys, *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(list(words))
    out, err = capsys.readouterr()
    return left.value.code, out, err


@pytest.mark.parametrize("folder", ["hospital", "my images: #1 'new'", "ünï"])
def test_the_command_that_phantom_prints_is_one_that_check_accepts(capsys, tmp_path, folder):
    size = ("--patients", "12", "--slices", "1", "--image-size-px", "32")
    goal = str(tmp_path / folder)
    code, out, _ = outcome(capsys, "data", "phantom", goal, "--hospital", "a", *size)
    assert code == 0
    name, command, *rest = shlex.split(out.partition("To train on them: ")[2])
    assert (name, command) == ("kerastl", "run")
    code, out, err = outcome(capsys, "check", *rest, "--json")
    assert (code, err) == (0, "")
    data = json.loads(out)["recipe"]["data"]
    assert (data["reader"]["name"], data["split"]["group_by"]) == ("table", "patient_id")
    assert Path(data["reader"]["path"]).is_file()


def test_what_breaks_without_our_doing_is_one_line_and_the_way_to_the_traceback(capsys, monkeypatch):
    def breaks(*_, **__):
        raise ValueError("shapes differ\nand a long story")

    monkeypatch.setattr("kerastl.recipe.catalog.find", breaks)
    code, out, err = outcome(capsys, "show", "a b")
    assert (code, out) == (3, "")
    assert err == (
        "Error: unexpected error, ValueError: shapes differ\n"
        "Run again with --debug for the traceback: kerastl --debug show 'a b'\n"
    )
    with pytest.raises(ValueError, match="long story"):
        main(["--debug", "show", "a b"])


def test_errors_of_the_operating_system_are_one_line(capsys, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "model.keras")

    monkeypatch.setattr("kerastl.recipe.catalog.find", full)
    assert outcome(capsys, "show", "x") == (3, "", "Error: No space left on device: model.keras\n")


def next_commands(folder: Path, capsys) -> str:
    (folder / "scores.json").write_text("{}")
    (folder / "export" / "saved model").mkdir(parents=True, exist_ok=True)
    _output.print_scores(Run(folder), as_json=False)
    return capsys.readouterr().out


def test_verify_is_suggested_only_if_the_test_images_are_files(run_folder, capsys):
    assert re.search(r"kerastl verify '?\S*/export/saved model'", next_commands(run_folder, capsys))
    write_rows(run_folder, ["tfds:flowers/test/0", "tfds:flowers/test/1"])
    output = next_commands(run_folder, capsys)
    assert "kerastl verify" not in output
    assert "kerastl predict" in output


def paths_of(words: tuple[str, ...]) -> list[click.Parameter]:
    command: click.Command = app
    for word in words:
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), word) or command
    return [param for param in command.params if isinstance(param.type, click.Path)]


@pytest.mark.parametrize("words", [command for command in COMMANDS if paths_of(command)], ids=" ".join)
def test_an_empty_path_is_refused(words: tuple[str, ...]) -> None:
    for param in paths_of(words):
        with pytest.raises(click.BadParameter):
            param.type.convert("", param, None)
        assert param.type.convert(".", param, None) == Path()

"""The command line. Each command is a module, imported when it is called, so that `--help` is fast."""

from __future__ import annotations

import importlib
import io
import pkgutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import click

from kerastl import __version__
from kerastl.errors import (
    KerastlError,
    did_you_mean,
    escape,
    nearest,
    quote,
    recipe_syntax,
    shell_command,
    suggest,
)

INTERRUPTED = 130
BROKEN = 3


class SuggestingGroup(click.Group):
    """A group that suggests a command for a misspelled one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command, or raise `UsageError` with a suggestion."""
        try:
            name, command, words = super().resolve_command(ctx, args)
        except click.UsageError as error:
            if "Did you mean" in error.format_message():
                raise
            hint = did_you_mean(args[0], self.list_commands(ctx))
            raise click.UsageError(f"{error.format_message()} {hint}", ctx) from None
        if command is not None and not ctx.resilient_parsing:  # completion has incomplete options
            _refuse_repeated_options(click.Context(command, parent=ctx, info_name=name), words)
        return name, command, words


def _refuse_repeated_options(ctx: click.Context, words: list[str]) -> None:
    """Raise `UsageError` if an option with one value is given twice; click would use the last value."""
    given: list[click.Parameter] = []
    with suppress(click.UsageError):  # raised again when the command is parsed
        _, _, given = ctx.command.make_parser(ctx).parse_args(list(words))
    options = [param for param in given if isinstance(param, click.Option)]
    for param in options:
        if options.count(param) > 1 and not param.multiple and not param.is_flag:
            raise click.UsageError(f"{param.opts[0]} is given {given.count(param)} times. Give it once.", ctx)


class CommandGroup(SuggestingGroup):
    """A group with one command per module of this package; each module defines `command`."""

    def _files(self) -> dict[str, str]:
        names = (module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]))
        return {name.replace("_", "-"): name for name in names if not name.startswith("_")}

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. Its messages show the syntax of recipes."""
        with recipe_syntax(is_command=True):
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of the commands in alphabetical order."""
        return sorted(self._files())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the module of one command."""
        file = self._files().get(cmd_name)
        if file is None:
            return None
        command = importlib.import_module(f"kerastl.cli.{file}").command
        assert isinstance(command, click.Command)
        return command


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kerastl")
@click.option("--debug", is_flag=True, help="Show the traceback if an error occurs.")
def app(debug: bool) -> None:
    """Transfer learning for image classification: from a folder of images to a served model.

    \b
    Start here:
      kerastl quickstart
      kerastl ls
      kerastl run folder-classifier --data DIR
    """


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Exit codes: 0 success, 1 invalid request, 2 invalid usage, 3 failed run, 130 interrupted.
    """
    words = sys.argv[1:] if arguments is None else arguments
    _escape_unprintable()
    try:
        code = app.main(args=words, prog_name="kerastl", standalone_mode=False)
    except click.ClickException as error:
        _show(error)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted.", err=True)
        sys.exit(INTERRUPTED)
    except KerastlError as error:
        if "--debug" in words:
            raise
        click.echo(f"Error: {escape(str(error))}", err=True)
        sys.exit(error.exit_code)
    except Exception as error:
        if "--debug" in words:
            raise
        click.echo(f"Error: {_in_one_line(error)}", err=True)
        if not isinstance(error, OSError):
            click.echo(
                f"Run again with --debug for the traceback: {shell_command('kerastl', '--debug', *words)}",
                err=True,
            )
        sys.exit(BROKEN)
    sys.exit(code if isinstance(code, int) else 0)


def _escape_unprintable() -> None:
    """Escape characters that a terminal without UTF-8 cannot print."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _show(error: click.ClickException) -> None:
    """Print a usage error. For an unknown option, suggest an option, a recipe key, or an argument."""
    params = error.ctx.command.params if isinstance(error, click.UsageError) and error.ctx else []
    if isinstance(error, click.NoSuchOption):
        options = [name for param in params if param.name != "help" for name in param.opts if name[:1] == "-"]
        word = error.option_name.lstrip("-")
        hint = suggest(word, options).strip()
        if not hint and "--set" in options:
            from kerastl.recipe import nearest_key

            key = nearest_key(word)
            example = shell_command("--set", f"{key}=VALUE") if key else "--set PATH=VALUE"
            hint = f"To change a recipe value: {example}"
        elif not hint and nearest(word, ["data", "path"]) and len(options) < len(params):
            hint = f"A path is an argument. Write it without {error.option_name}."
        error = click.UsageError(f"{error.message} {hint}".strip(), error.ctx)
    error.show()
    is_extra = error.message.startswith("Got unexpected extra argument")
    if is_extra and any(param.name == "data" for param in params):
        click.echo("To select images: --data PATH. To change a recipe value: --set PATH=VALUE", err=True)


def _in_one_line(error: Exception) -> str:
    """Return a one-line message for an error of the operating system or an unexpected error."""
    if isinstance(error, OSError):
        return f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = f": {quote(lines[0], '')}" if lines else ""
    return f"unexpected error, {type(error).__name__}{message}"

"""`kerastl cp`: copy a recipe to a new file."""

from __future__ import annotations

from pathlib import Path

import click

from kerastl.cli._output import NonEmptyPath, RecipeName, shell_path
from kerastl.errors import RequestError, shell_command
from kerastl.recipe import catalog


@click.command()
@click.argument("recipe", type=RecipeName())
@click.argument("file", type=NonEmptyPath())
def command(recipe: str, file: Path) -> None:
    """Copy a recipe to FILE for editing.

    RECIPE is the name of a shipped recipe or the path of a recipe file. FILE may be a folder. Existing
    files are not overwritten.

    \b
    Example:
      kerastl cp folder-classifier mine.yaml
    """
    text = catalog.find(recipe)
    target = file / f"{text.name}.yaml" if file.is_dir() else file
    if not target.parent.is_dir():
        raise RequestError(
            f"There is no folder {target.parent}. Create it: {shell_command('mkdir', '-p', target.parent)}"
        )
    _write_new(target, text.text)
    click.echo(f"Wrote {target}. Edit it, then: kerastl check {shell_path(target)}")


def _write_new(target: Path, text: str) -> None:
    """Write a new file; an incomplete file is deleted."""
    try:
        file = target.open("x", encoding="utf-8")
    except FileExistsError:
        raise RequestError(f"{target} already exists. Choose another name.") from None
    try:
        with file:
            file.write(text)
    except OSError:
        target.unlink(missing_ok=True)
        raise

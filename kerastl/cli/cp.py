"""`kerastl cp NAME FILE`: copy a recipe to edit; never over another file."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from kerastl.cli._output import NamedPath
from kerastl.errors import RequestError
from kerastl.recipe import catalog


@click.command()
@click.argument("recipe")
@click.argument("file", type=NamedPath())
def command(recipe: str, file: Path) -> None:
    """Copy a recipe to FILE, to edit it.

    RECIPE is a shipped name or a file. FILE may be a folder. What is there already is never overwritten.

    \b
    Example:
      kerastl cp folder-classifier mine.yaml
    """
    found = catalog.find(recipe)
    goal = file / f"{found.name}.yaml" if file.is_dir() else file
    if not goal.parent.is_dir():
        raise RequestError(
            f"There is no folder {goal.parent}. Make it: mkdir -p {shlex.quote(str(goal.parent))}"
        )
    _write_new(goal, found.text)
    click.echo(f"Wrote {goal}. Edit it, then: kerastl check {shlex.quote(str(goal))}")


def _write_new(goal: Path, text: str) -> None:
    """Write a file that must not exist yet; half a file is taken away again."""
    try:
        file = goal.open("x", encoding="utf-8")
    except FileExistsError:
        raise RequestError(f"{goal} exists and is not overwritten. Choose another name.") from None
    try:
        with file:
            file.write(text)
    except OSError:
        goal.unlink(missing_ok=True)
        raise

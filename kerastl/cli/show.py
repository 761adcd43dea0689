"""`kerastl show`: print a recipe."""

from __future__ import annotations

import click

from kerastl.cli._output import RecipeName
from kerastl.recipe import catalog


@click.command()
@click.argument("recipe", type=RecipeName())
def command(recipe: str) -> None:
    """Print a recipe with its comments.

    RECIPE is the name of a shipped recipe or the path of a recipe file.

    \b
    Example:
      kerastl show folder-classifier
    """
    click.echo(catalog.find(recipe).text, nl=False)

"""`kerastl ls`: list the shipped recipes."""

from __future__ import annotations

import json

import click

from kerastl.recipe import catalog


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def command(as_json: bool) -> None:
    """List the shipped recipes with their purpose.

    \b
    Example:
      kerastl ls
    """
    recipes = [catalog.find(name) for name in catalog.names()]
    if as_json:
        click.echo(json.dumps([{"name": recipe.name, "purpose": recipe.purpose} for recipe in recipes]))
        return
    width = max((len(recipe.name) for recipe in recipes), default=0)
    for recipe in recipes:
        click.echo(f"{recipe.name:<{width}}  {recipe.purpose}")
    click.echo("\nTo print a recipe: kerastl show NAME\nTo copy a recipe:  kerastl cp NAME FILE")

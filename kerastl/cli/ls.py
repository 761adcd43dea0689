"""`kerastl ls`: the recipes that ship."""

from __future__ import annotations

import json

import click

from kerastl.recipe import catalog


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON list.")
def command(as_json: bool) -> None:
    """List the recipes that ship, with what each is for.

    \b
    Example:
      kerastl ls
    """
    recipes = [catalog.find(name) for name in catalog.names()]
    if as_json:
        click.echo(json.dumps([{"name": recipe.name, "why": recipe.purpose} for recipe in recipes]))
        return
    width = max((len(recipe.name) for recipe in recipes), default=0)
    for recipe in recipes:
        click.echo(f"{recipe.name:<{width}}  {recipe.purpose}")
    click.echo("\nPrint one: kerastl show NAME      Copy one to edit: kerastl cp NAME FILE")

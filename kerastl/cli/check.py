"""`kerastl check RECIPE`: every problem at once, with line and suggestion; nothing runs."""

from __future__ import annotations

import json
import shlex

import click

from kerastl import recipe as recipes
from kerastl.workflows.check_recipe import check_recipe
from kerastl.errors import Problem, Problems, RequestError


@click.command()
@click.argument("recipe")
@click.option("--set", "sets", metavar="PATH=VALUE", multiple=True, help="Change one value first.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(recipe: str, sets: tuple[str, ...], as_json: bool) -> None:
    """Check a recipe: every problem at once, with its line. Nothing is run, no image is opened.

    RECIPE is a shipped name or a file. Exit code 0: it is good, 1: it has problems.

    \b
    Examples:
      kerastl check folder-classifier --set data.reader.path=photos
      kerastl check mine.yaml
    """
    try:
        good = check_recipe(recipes.find(recipe), sets)
    except RequestError as error:
        if not as_json:
            raise
        click.echo(json.dumps({"good": False, "problems": _listed(error)}))
        click.get_current_context().exit(1)
    if as_json:
        click.echo(json.dumps({"good": True, "problems": [], "recipe": recipes.as_plain(good)}))
        return
    click.echo(f"{recipe} is good: {recipes.summary(good)}")
    changes = "".join(f" --set {shlex.quote(text)}" for text in sets)
    click.echo(f"Run it: kerastl run {shlex.quote(recipe)}{changes}")


def _listed(error: RequestError) -> list[dict[str, str]]:
    problems = error.problems if isinstance(error, Problems) else (Problem("", str(error)),)
    return [{"where": problem.where, "message": problem.message} for problem in problems]

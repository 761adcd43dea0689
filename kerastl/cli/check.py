"""`kerastl check`: report all problems of a recipe."""

from __future__ import annotations

import json
from pathlib import Path

import click

from kerastl import recipe as recipes
from kerastl.cli._output import RecipeName, load_recipe, recipe_options
from kerastl.errors import Problem, Problems, RequestError
from kerastl.workflows.check_recipe import readers_of


@click.command()
@click.argument("recipe", type=RecipeName())
@recipe_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    recipe: str, data: Path | None, target: Path | None, sets: tuple[str, ...], as_json: bool
) -> None:
    """Check a recipe and report all its problems with their lines. Nothing is run, and no image is decoded.

    RECIPE is the name of a shipped recipe or the path of a recipe file. The exit code is 1 if it has problems.

    \b
    Examples:
      kerastl check folder-classifier --data photos
      kerastl check mine.yaml
    """
    try:
        _, checked = load_recipe(recipe, sets, data, target)
    except RequestError as error:
        if not as_json:
            raise
        click.echo(json.dumps({"valid": False, "problems": _listed(error)}))
        raise SystemExit(1) from None
    if as_json:
        click.echo(json.dumps({"valid": True, "problems": [], "recipe": recipes.as_plain(checked)}))
        return
    click.echo(f"{recipe} is valid: {recipes.summary(checked)}")
    click.echo(f"To run it: {recipes.recipe_command('run', recipe, readers_of(data, target), sets)}")


def _listed(error: RequestError) -> list[dict[str, str]]:
    problems = error.problems if isinstance(error, Problems) else (Problem("", str(error)),)
    return [{"where": problem.where, "message": problem.message} for problem in problems]

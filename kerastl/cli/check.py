"""`kerastl check`: report all problems of a recipe."""

from __future__ import annotations

import json
import shlex

import click

from kerastl import recipe as recipes
from kerastl.cli._output import sets_option
from kerastl.errors import Problem, Problems, RequestError
from kerastl.workflows.check_recipe import check_recipe


@click.command()
@click.argument("recipe")
@sets_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(recipe: str, sets: tuple[str, ...], as_json: bool) -> None:
    """Check a recipe and report all its problems with their lines. Nothing is run, and no image is read.

    RECIPE is the name of a shipped recipe or the path of a recipe file. The exit code is 1 if it has problems.

    \b
    Examples:
      kerastl check folder-classifier --set data.reader.path=photos
      kerastl check mine.yaml
    """
    try:
        checked = check_recipe(recipes.find(recipe), sets)
    except RequestError as error:
        if not as_json:
            raise
        click.echo(json.dumps({"valid": False, "problems": _listed(error)}))
        raise SystemExit(1) from None
    if as_json:
        click.echo(json.dumps({"valid": True, "problems": [], "recipe": recipes.as_plain(checked)}))
        return
    click.echo(f"{recipe} is valid: {recipes.summary(checked)}")
    changes = "".join(f" --set {shlex.quote(text)}" for text in sets)
    click.echo(f"To run it: kerastl run {shlex.quote(recipe)}{changes}")


def _listed(error: RequestError) -> list[dict[str, str]]:
    problems = error.problems if isinstance(error, Problems) else (Problem("", str(error)),)
    return [{"where": problem.where, "message": problem.message} for problem in problems]

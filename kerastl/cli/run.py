"""`kerastl run`: train, judge and export what a recipe says."""

from __future__ import annotations

from pathlib import Path

import click

from kerastl.cli._output import NonEmptyPath


@click.command()
@click.argument("recipe")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Change one value.")
@click.option("--out", type=NonEmptyPath(), help="Run folder, new or empty.")
@click.option("--resume", is_flag=True, help="Go on with a run that was stopped.")
@click.option(
    "--oracle", is_flag=True, help="Judge every way to adapt on the target's test images, after the choice."
)
@click.option("--json", "as_json", is_flag=True, help="Write the scores as JSON to stdout.")
def command(
    recipe: str, sets: tuple[str, ...], out: Path | None, resume: bool, oracle: bool, as_json: bool
) -> None:
    """Train, judge and export what RECIPE says: a shipped name or a file.

    \b
    Examples:
      kerastl run folder-classifier --set data.reader.path=photos
      kerastl run mine.yaml --out runs/first
      kerastl run mine.yaml --resume
    """
    from kerastl import recipe as recipes
    from kerastl.workflows.check_recipe import check_recipe

    found = recipes.find(recipe)
    checked = check_recipe(found, sets)
    from kerastl.cli._output import load_tensorflow

    load_tensorflow()
    from kerastl.cli._output import print_scores
    from kerastl.workflows import run as runner

    run = runner.run(checked, name=found.name, out=out, resume=resume, oracle=oracle)
    print_scores(run, as_json=as_json)

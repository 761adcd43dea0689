"""`kerastl run`: train, evaluate and export a model by a recipe."""

from __future__ import annotations

from pathlib import Path

import click

from kerastl import runs
from kerastl.cli._output import RecipeName, load_recipe, out_option, print_scores, recipe_options
from kerastl.console import load_tensorflow
from kerastl.errors import problems_of
from kerastl.workflows.check_recipe import check_requirements


@click.command()
@click.argument("recipe", type=RecipeName())
@recipe_options
@out_option("Run folder, new or empty.  [default: runs/RECIPE-N]")
@click.option("--resume", is_flag=True, help="Continue an interrupted run.")
@click.option(
    "--oracle",
    is_flag=True,
    help="Evaluate all adaptation candidates on the target test images, after the selection.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
def command(
    recipe: str, data: Path | None, target: Path | None, sets: tuple[str, ...], out: Path | None,
    resume: bool, oracle: bool, as_json: bool,
) -> None:  # fmt: skip
    """Train, evaluate and export a model as defined by RECIPE.

    RECIPE is the name of a shipped recipe or the path of a recipe file.

    \b
    Examples:
      kerastl run folder-classifier --data photos
      kerastl run folder-classifier --data photos.csv --set data.reader.columns.label=species
      kerastl run mine.yaml --out runs/first
      kerastl run mine.yaml --resume
    """
    problems = problems_of("", runs.check_run_folder, Path(recipe).stem, out, resume=resume)
    recipe_text, checked = load_recipe(recipe, sets, data, target, problems=problems)
    check_requirements(checked, name=recipe_text.name, out=out, resume=resume)
    load_tensorflow()
    from kerastl.workflows import run as runner

    run = runner.run(checked, name=recipe_text.name, out=out, resume=resume, oracle=oracle)
    print_scores(run, as_json=as_json)

"""`kerastl adapt-curve`: how many patients of hospital B must be labelled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kerastl.cli._output import NamedPath
from kerastl.errors import Problem, Problems, RequestError

if TYPE_CHECKING:
    from kerastl.recipe import Found, Recipe
    from kerastl.workflows import Outcome


@click.command()
@click.argument("recipe")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Change one value.")
@click.option(
    "--labels",
    default="0,1,2,5,10",
    show_default=True,
    metavar="N,N,...",
    help="Labelled patients of each class, ascending; 0 is always told.",
)
@click.option("--seeds", type=int, default=3, show_default=True, help="Repetitions of everything.")
@click.option(
    "--scratch-epochs",
    type=int,
    default=100,
    show_default=True,
    help="Of each run from random weights: enough for a plateau.",
)
@click.option("--out", type=NamedPath(), help="Folder of the curve, new or empty.")
@click.option("--resume", is_flag=True, help="Go on with a curve that was stopped.")
@click.option("--json", "as_json", is_flag=True, help="Write the curve as JSON to stdout.")
def command(
    recipe: str, sets: tuple[str, ...], labels: str, seeds: int, scratch_epochs: int,
    out: Path | None, resume: bool, as_json: bool,
) -> None:  # fmt: skip
    """Tell how many patients of hospital B to label: the score at B against their number.

    RECIPE has a target, as hospital-adaptation has. Three ways are compared: A's model fine-tuned on the labelled
    patients; adapted without labels first, then fine-tuned; and the same network from random weights on the same
    patients. Every model is a run folder of its own. This is many runs: try few labels and one seed first.

    \b
    Examples:
      kerastl adapt-curve hospital-adaptation --set data.reader.path=A.csv --set target.reader.path=B.csv
      kerastl adapt-curve mine.yaml --labels 0,1,4 --seeds 1 --out runs/curve
      kerastl adapt-curve mine.yaml --labels 0,1,4 --seeds 1 --out runs/curve --resume
    """
    from kerastl.workflows import count_problems, out_problems, read_labels

    numbers, problems = read_labels(labels)
    problems += [*count_problems(seeds, scratch_epochs), *out_problems(None if resume else out)]
    found, good = _checked(recipe, sets, problems)
    from kerastl.cli._output import load_tensorflow

    load_tensorflow()
    from kerastl.workflows.label_budget import adapt_curve

    outcome = adapt_curve(
        good, name=found.name, labels=numbers, seeds=seeds, scratch_epochs=scratch_epochs,
        out=out, resume=resume, problems=problems,
    )  # fmt: skip
    if as_json:
        told = outcome.curve.to_json(outcome.reading) | {"folder": str(outcome.run.path)}
        click.echo(json.dumps(told, indent=1))
        return
    _print(outcome)


def _checked(recipe: str, sets: tuple[str, ...], problems: list[Problem]) -> tuple[Found, Recipe]:
    """Return the recipe as found and as checked; what is wrong with it is told beside what is wrong with the command.

    Raises:
        RequestError: all that is wrong.
    """
    from kerastl import recipe as recipes
    from kerastl.workflows.check_recipe import check_recipe

    try:
        found = recipes.find(recipe)
        return found, check_recipe(found, sets)
    except Problems as error:
        raise Problems(error.subject, [*problems, *error.problems], error.footer) from error
    except RequestError as error:
        if not problems:
            raise
        line = " ".join(str(error).split())
        raise Problems("The curve", [*problems, Problem("RECIPE", line)]) from error


def _print(outcome: Outcome) -> None:
    """Print the table, what it means, and where the image lies."""
    from kerastl.cli._output import near

    curve = outcome.curve
    seeds = len(curve.seeds)
    over = f", median of {seeds} seeds (least to greatest)" if seeds > 1 else ""
    head = f"{curve.unit}s a class"
    click.echo(f"\n{curve.metric_words[:1].upper()}{curve.metric_words[1:]} at B{over}")
    click.echo(f"  {head:<18}" + "".join(f"{way:<26}" for way in curve.ways).rstrip())
    for number in curve.labels:
        levels = (curve.level(way, number) for way in curve.ways)
        cells = "".join(f"{level.text if level else '-':<26}" for level in levels)
        click.echo(f"  {number:<18}{cells.rstrip()}")
    click.echo()
    for line in [*outcome.reading, *(f"Note: {note}" for note in curve.notes)]:
        click.echo(line)
    run = outcome.run
    click.echo(f"\nThe image:           {near(run.file('curve.png'))}")
    click.echo(f"The page to look at:   {near(run.file('report.html'))}")
    click.echo(f"The points:            {near(run.file('curve.csv'))}")

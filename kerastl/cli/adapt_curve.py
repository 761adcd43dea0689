"""`kerastl adapt-curve`: estimate how many target patients to label."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import click

from kerastl import report, workflows
from kerastl.cli._output import RecipeName, load_recipe, option, out_option, recipe_options, shell_path
from kerastl.console import load_tensorflow


@click.command()
@click.argument("recipe", type=RecipeName())
@recipe_options
@option(
    "--labels",
    default="0,1,2,5,10",
    metavar="N,N,...",
    help="Labeled patients per class, ascending; 0 is always included.",
)
@option("--seeds", type=int, default=3, help="Number of repetitions.")
@option(
    "--scratch-epochs",
    type=int,
    default=100,
    help="Epochs of each run from random weights, enough to reach a plateau.",
)
@out_option("Folder of the curve, new or empty.  [default: runs/RECIPE-curve-N]")
@click.option("--resume", is_flag=True, help="Continue an interrupted curve.")
@click.option("--json", "as_json", is_flag=True, help="Print the curve as JSON.")
def command(
    recipe: str, data: Path | None, target: Path | None, sets: tuple[str, ...], labels: str, seeds: int,
    scratch_epochs: int, out: Path | None, resume: bool, as_json: bool,
) -> None:  # fmt: skip
    """Estimate how many target patients to label. Plots the score at hospital B against their number.

    RECIPE must have a target, such as hospital-adaptation. Three strategies are compared: fine-tuning of A's model on
    the labeled patients, fine-tuning after adaptation without labels, and training of the same network from random
    weights on the same patients. Each model has its own run folder. A curve consists of many runs. Start with few
    labels and one seed.

    \b
    Examples:
      kerastl adapt-curve hospital-adaptation --data A.csv --target B.csv
      kerastl adapt-curve mine.yaml --labels 0,1,4 --seeds 1 --out runs/curve
      kerastl adapt-curve mine.yaml --labels 0,1,4 --seeds 1 --out runs/curve --resume
    """
    numbers, problems = workflows.read_labels(labels.split(","))
    problems += workflows.count_problems(seeds, scratch_epochs)
    problems += workflows.out_problems(None if resume else out)
    recipe_text, checked = load_recipe(
        recipe,
        sets,
        data,
        target,
        problems=problems,
        problems_of_recipe=partial(workflows.recipe_problems, seeds=seeds),
        outside=out,
    )
    load_tensorflow()
    outcome = workflows.adapt_curve(
        checked, name=recipe_text.name, labels=numbers, seeds=seeds, scratch_epochs=scratch_epochs,
        out=out, resume=resume,
    )  # fmt: skip
    if as_json:
        click.echo(json.dumps(outcome.curve.to_json() | {"folder": str(outcome.run.path)}, indent=1))
        return
    _print(outcome)


def _print(outcome: workflows.LabelBudget) -> None:
    """Print the table of scores and the paths of the files."""
    curve = outcome.curve
    seeds = len(curve.seeds)
    summary = f", median of {seeds} seeds (range)" if seeds > 1 else ""
    label_column = f"{curve.unit}s per class"
    click.echo(f"\n{curve.metric_title[:1].upper()}{curve.metric_title[1:]} at B{summary}")
    click.echo(f"  {label_column:<20}" + "".join(f"{name:<26}" for name in curve.strategies).rstrip())
    for count in curve.labels:
        scores = (report.format_scores(curve.scores(strategy, count)) for strategy in curve.strategies)
        cells = "".join(f"{text:<26}" for text in scores)
        click.echo(f"  {count:<20}{cells.rstrip()}")
    for note in curve.notes:
        click.echo(f"Note: {note}")
    run = outcome.run
    click.echo(f"\nFigure:  {shell_path(run.file('curve.png'))}")
    click.echo(f"Report:  {shell_path(run.file('report.html'))}")
    click.echo(f"Scores:  {shell_path(run.file('curve.csv'))}")

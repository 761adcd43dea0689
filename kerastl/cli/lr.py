"""`kerastl lr`: which learning rate, by a range test."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click


@click.command()
@click.argument("recipe")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Change one value.")
@click.option("--phase", metavar="NAME", help="Which phase.  [default: the first]")
@click.option(
    "--seeds", type=click.IntRange(1, 20), default=3, show_default=True, help="Tests to run."
)
@click.option(
    "--steps", type=click.IntRange(10, 10_000), default=100, show_default=True, help="Of each."
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="A new .png.  [default: lr-RECIPE-PHASE.png]"
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    recipe: str, sets: tuple[str, ...], phase: str | None, seeds: int, steps: int,
    out: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Find the learning rate of one phase of RECIPE: train for some steps while the rate climbs, watch the loss.

    Each test begins with the weights that the recipe starts from, and lets move what the phase lets move; where it
    learns from kept features, a test takes seconds. Three rules read a rate off the curve; the bracket is their least
    and greatest over the seeds. Nothing is kept but the picture.

    \b
    Examples:
      kerastl lr folder-classifier --set data.reader.path=photos
      kerastl lr mine.yaml --phase fine_tune --seeds 5 --out rate.png
    """
    from kerastl import recipe as recipes
    from kerastl.cli._recipes import checked

    found = recipes.find(recipe)
    good = checked(found, sets)
    from kerastl.cli._quiet import load_tensorflow

    load_tensorflow()
    from kerastl import report, stages
    from kerastl.cli._tables import near

    rates = stages.find_rates(good, name=found.name, phase=phase, seeds=seeds, steps=steps, out=out)
    if as_json:
        told = dataclasses.asdict(rates) | {"picture": str(rates.picture)}
        click.echo(json.dumps(told))
        return
    for line in report.curve_in_characters(rates.tests[0]):
        click.echo(line)
    click.echo(f"\n{'':16} {'rate':>9}   over {len(rates.tests)} seed{'s'[: len(rates.tests) > 1]}")
    for rule, words in report.RULES.items():
        middle, low, high = rates.bracket(rule)
        click.echo(f"{rule:16} {middle:9.2g}   {low:.2g} to {high:.2g}   {words}")
    click.echo(f"{'the recipe':16} {rates.rate:9.2g}")
    click.echo(f"The curves: {near(rates.picture)}")
    place = next(at for at, one in enumerate(good.phases) if one.name == rates.phase)
    middle = rates.bracket("valley")[0]
    click.echo(f"To take the valley: --set phases[{place}].learning_rate={middle:.2g}")

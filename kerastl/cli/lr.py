"""`kerastl lr`: which learning rate, by a range test."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kerastl.cli._output import NonEmptyPath

if TYPE_CHECKING:
    from kerastl.workflows.find_lr import Rates


@click.command()
@click.argument("recipe")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Change one value.")
@click.option("--phase", metavar="NAME", help="Which phase.  [default: the first]")
@click.option("--seeds", type=click.IntRange(1, 20), default=3, show_default=True, help="Tests to run.")
@click.option("--steps", type=click.IntRange(10, 10_000), default=100, show_default=True, help="Of each.")
@click.option(
    "--lowest", type=click.FloatRange(0, min_open=True), default=1e-6, show_default=True, help="First rate."
)
@click.option(
    "--highest", type=click.FloatRange(0, min_open=True), default=3.0, show_default=True, help="Last rate."
)
@click.option("--out", type=NonEmptyPath(), help="A new .png.  [default: lr-RECIPE-PHASE.png]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    recipe: str, sets: tuple[str, ...], phase: str | None, seeds: int, steps: int,
    lowest: float, highest: float, out: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Find the learning rate of one phase of RECIPE: train for some steps while the rate climbs, watch the loss.

    Each test begins with the weights that the recipe starts from, and lets move what the phase lets move; where it
    learns from kept features, a test takes seconds. Three rules read a rate off the curve; the bracket is their least
    and greatest over the seeds; a loss that does not fall beyond its noise tells none. Nothing is kept but the image.

    \b
    Examples:
      kerastl lr folder-classifier --set data.reader.path=photos
      kerastl lr mine.yaml --phase fine_tune --seeds 5 --out rate.png
    """
    from kerastl import recipe as recipes
    from kerastl.workflows.check_recipe import check_recipe

    found = recipes.find(recipe)
    checked = check_recipe(found, sets)
    from kerastl.cli._output import load_tensorflow

    load_tensorflow()
    from kerastl import workflows

    rates = workflows.find_rates(
        checked, name=found.name, phase=phase, seeds=seeds, steps=steps, lowest=lowest, highest=highest, out=out,
    )  # fmt: skip
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(rates) | {"image": str(rates.image)}))
        return
    _print_rules(rates)
    valley = rates.bracket("valley")
    count, told = len(rates.tests), rates.told
    if valley is None:
        click.echo(
            f"The loss fell beyond its noise in {told} of {count} tests. Try more steps or larger batches: "
            f"--steps {4 * steps}, --set data.batch_size={2 * checked.data.known_batch_size}"
        )
        return
    if told < count:
        click.echo(f"{count - told} of {count} tests tell nothing: their loss did not fall beyond its noise.")
    place = [one.name for one in checked.phases].index(rates.phase)
    click.echo(f"To take the valley: --set phases[{place}].learning_rate={valley[0]:.2g}")


def _print_rules(rates: Rates) -> None:
    """Print one curve, and what each rule reads off all of them."""
    from kerastl import report
    from kerastl.cli._output import shell_path

    for line in report.curve_in_characters(rates.tests[0]):
        click.echo(line)
    click.echo(f"\n{'':16} {'rate':>9}   over {len(rates.tests)} seed{'s'[: len(rates.tests) > 1]}")
    for rule, words in report.RULES.items():
        bracket = rates.bracket(rule)
        told = f"{bracket[0]:9.2g}   {bracket[1]:.2g} to {bracket[2]:.2g}" if bracket else "cannot tell"
        click.echo(f"{rule:16} {told}   {words}")
    click.echo(f"{'the recipe':16} {rates.rate:9.2g}")
    click.echo(f"The curves: {shell_path(rates.image)}")

"""`kerastl lr`: find a learning rate by range tests."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click

from kerastl import report, workflows
from kerastl.cli._output import (
    NumberRange,
    RecipeName,
    load_recipe,
    option,
    out_option,
    recipe_options,
    shell_path,
)
from kerastl.console import load_tensorflow
from kerastl.errors import pluralize, set_option
from kerastl.workflows.check_recipe import check_weights, phase_index, rate_test_problems


@click.command()
@click.argument("recipe", type=RecipeName())
@recipe_options
@click.option("--phase", metavar="NAME", help="Name of the phase.  [default: the first]")
@option("--seeds", type=click.IntRange(1, 20), default=3, help="Number of range tests.")
@option("--steps", type=click.IntRange(10, 10000), default=100, help="Steps per test.")
@option(
    "--lowest", type=NumberRange(0, min_open=True), default=1e-06, help="Learning rate of the first step."
)
@option("--highest", type=NumberRange(0, min_open=True), default=3.0, help="Learning rate of the last step.")
@out_option("New PNG file.  [default: lr-RECIPE-PHASE.png]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    recipe: str, data: Path | None, target: Path | None, sets: tuple[str, ...], phase: str | None, seeds: int, steps: int,
    lowest: float, highest: float, out: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Find the learning rate of one phase of RECIPE. Records the loss while the learning rate increases.

    Each test starts from the initial weights of the recipe and trains the layers of the phase, on cached features if
    the phase uses them. Three rules suggest a learning rate from each curve; their range over the seeds is printed. A
    test in which the loss does not decrease by more than its noise gives no suggestion. Only the figure is saved.

    \b
    Examples:
      kerastl lr folder-classifier --data photos
      kerastl lr mine.yaml --phase fine_tune --seeds 5 --out rate.png
    """
    recipe_text, checked = load_recipe(
        recipe, sets, data, target,
        problems_of_recipe=lambda checked: rate_test_problems(checked, phase, lowest, highest, out),
    )  # fmt: skip
    index = phase_index(checked, phase)
    check_weights(checked)
    load_tensorflow()
    rates = workflows.find_rates(
        checked, name=recipe_text.name, phase=phase, seeds=seeds, steps=steps, lowest=lowest, highest=highest, out=out,
    )  # fmt: skip
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(rates) | {"image": str(rates.image)}))
        return
    _print_rules(rates)
    valley = rates.bracket("valley")
    count, conclusive = len(rates.tests), rates.num_conclusive
    if valley is None:
        click.echo(
            f"The loss decreased by more than its noise in {conclusive} of {count} tests. Use more steps or larger batches: "
            f"--steps {4 * steps}, --set data.batch_size={2 * checked.data.known_batch_size}"
        )
        return
    if conclusive < count:
        click.echo(
            f"{count - conclusive} of {count} tests are inconclusive: the loss did not decrease by more than its noise."
        )
    click.echo(f"To use the valley: {set_option(f'phases[{index}].learning_rate', f'{valley[0]:.2g}')}")


def _print_rules(rates: workflows.Rates) -> None:
    """Print one curve, and the suggestions of each rule over all curves."""
    for line in report.curve_in_characters(rates.tests[0]):
        click.echo(line)
    click.echo(f"\n{'':16} {'rate':>9}   over {pluralize(len(rates.tests), 'seed')}")
    for rule, description in report.RULES.items():
        bracket = rates.bracket(rule)
        values = f"{bracket[0]:9.2g}   {bracket[1]:.2g} to {bracket[2]:.2g}" if bracket else "inconclusive"
        click.echo(f"{rule:16} {values}   {description}")
    click.echo(f"{'the recipe':16} {rates.rate:9.2g}")
    click.echo(f"Curves: {shell_path(rates.image)}")

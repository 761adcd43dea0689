"""`kerastl augment bench`: what a recipe's augmentation costs on this machine, and how each operation is done."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import click


@click.command()
@click.argument("recipe")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Change one value.")
@click.option(
    "--rounds", type=click.IntRange(1, 50), default=3, show_default=True, help="Told is the median."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def bench(recipe: str, sets: tuple[str, ...], rounds: int, as_json: bool) -> None:
    """Time RECIPE's augmentation on drawn pictures: keras-cv as it comes, exact, and compiled.

    Each operation alone, then the whole policy, in images per second, at the recipe's size and batch; and how each
    is done: `folded` into one warp with its neighbours, `hsv` (one conversion with its neighbours), `linear`, `compiled`,
    or `layer`: it cannot be lowered and runs by itself, in order. No picture is read: the path that a recipe must name may
    be any. Other programs on the machine disturb the figures: the ratios within a round say more than the speeds.

    \b
    Examples:
      kerastl augment bench folder-classifier --set data.reader.path=photos
      kerastl augment bench mine.yaml --set augment=strong --set data.image_size_px=96
    """
    from kerastl import recipe as recipes
    from kerastl.cli._recipes import checked

    found = recipes.find(recipe)
    good = checked(found, sets)
    from kerastl.cli._quiet import load_tensorflow

    load_tensorflow()
    from kerastl.augment.bench import bench_policy
    from kerastl.backbones import checked_size
    from kerastl.errors import RequestError

    operations = [(one.name, one.options) for one in good.augment.operations]
    if not operations:
        raise RequestError(
            f"{found.name} has no operations to time. Try one of the policies:\n"
            f"  kerastl augment bench {recipe} --set augment=light"
        )
    size = checked_size(good.backbone.name, good.data.image_size_px)
    rows = bench_policy(
        operations, image_size_px=size, batch_size=good.data.known_batch_size, rounds=rounds
    )
    if as_json:
        told = [dataclasses.asdict(row) for row in rows]
        click.echo(
            json.dumps(
                {"image_size_px": size, "batch_size": good.data.known_batch_size, "rows": told}
            )
        )
        return
    click.echo(f"images per second at {size} px, batches of {good.data.known_batch_size}")
    click.echo(f"{'':26} {'done by':>12} {'keras-cv':>9} {'exact':>9} {'compiled':>9} {'ratio':>7}")
    for row in rows:
        name = row.name + ("*" if row.corrected else "")
        click.echo(
            f"{name:26} {row.lowering:>12} {_speed(row.keras_cv):>9} {_speed(row.exact):>9} "
            f"{_speed(row.compiled):>9} {_times(row.speedup):>7}"
        )
    if any(row.corrected and row.keras_cv is not None for row in rows):
        click.echo(
            "* keras-cv's layer is replaced by one that is right; what is timed as keras-cv is that one."
        )
    for row in rows:
        if row.reason:
            click.echo(f"{row.name}: {row.reason}")


def _speed(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _times(value: Any) -> str:
    return "-" if value is None else f"x {value:.1f}"

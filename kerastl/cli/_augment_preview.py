"""`kerastl augment preview`: training pictures, beside what the augmentation makes of them."""

from __future__ import annotations

from pathlib import Path

import click

from kerastl.cli._paths import NamedPath

MOST = 32
"""Pictures, or samples of each, above which nobody looks."""


@click.command()
@click.argument("recipe")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Change one value.")
@click.option(
    "--out",
    type=NamedPath(),
    help="Folder, new or empty.  [default: preview-RECIPE, numbered]",
)
@click.option(
    "--pictures", type=click.IntRange(1, MOST), default=4, show_default=True, help="How many."
)
@click.option(
    "--samples", type=click.IntRange(0, MOST), default=3, show_default=True, help="Of each picture."
)
@click.option("--operation", metavar="NAME", help="Show this operation, or mixing, alone.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    help="Other pictures and samples than by the recipe's seed.",
)
@click.option(
    "--open",
    "opens",
    type=click.Choice(["yes", "no"]),
    default="no",
    show_default=True,
    help="Open the page in a browser.",
)
def preview(
    recipe: str, sets: tuple[str, ...], out: Path | None, pictures: int, samples: int,
    operation: str | None, seed: int | None, opens: str,
) -> None:  # fmt: skip
    """Show training pictures as RECIPE changes them: the original left, what becomes of it right.

    Each operation at its lower and its upper end, with its strength in words, and samples; then all together; then
    mixed pictures with the shares of their labels. Writes preview.html and preview.png. Both hold pictures of the
    training split: they are as confidential as the data. Nothing is trained, and nothing written among the data.

    \b
    Examples:
      kerastl augment preview mine.yaml
      kerastl augment preview folder-classifier --set data.reader.path=photos --set augment=strong
      kerastl augment preview mine.yaml --operation random_rotation --pictures 8 --out turned
    """
    from kerastl import recipe as recipes
    from kerastl.cli._recipes import checked

    found = recipes.find(recipe)
    good = checked(found, sets)
    from kerastl.cli._quiet import load_tensorflow

    load_tensorflow()
    from kerastl import workflows
    from kerastl.cli._tables import near

    page = workflows.preview(
        good, name=found.name, out=out, pictures=pictures, samples=samples, operation=operation,
        seed=seed,
    )  # fmt: skip
    click.echo(f"The page to look at: {near(page)}")
    click.echo(f"The same as one picture: {near(page.with_suffix('.png'))}")
    click.echo("Both hold pictures of the data: they are as confidential as it is.")
    if opens == "yes":
        click.launch(str(page))

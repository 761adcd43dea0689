"""`kerastl augment`: preview and check the augmentation of a recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kerastl.cli._output import NamedPath
from kerastl.errors import RequestError

if TYPE_CHECKING:
    from kerastl.recipe import Recipe


@click.command()
@click.argument("recipe", metavar="RECIPE|RUN")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Change one value.")
@click.option(
    "--operations",
    default="recipe",
    show_default=True,
    metavar="all|recipe|NAME,...",
    help="What is tried. Of a recipe without any: the common ones.",
)
@click.option(
    "--max-images",
    type=click.IntRange(10, 100_000),
    default=150,
    show_default=True,
    help="Judged at most, of each class.",
)
@click.option(
    "--out",
    type=NamedPath(),
    help="New folder for audit.json, policy.yaml and audit.html, which shows images.",
)
@click.option("--json", "as_json", is_flag=True, help="Write everything as JSON to stdout.")
def audit(
    recipe: str, sets: tuple[str, ...], operations: str, max_images: int, out: Path | None, as_json: bool
) -> None:
    """Find which operation at which strength changes the class on these images.

    RECIPE is a shipped name, a file or a run folder. Training and validation images are judged by models that saw
    neither them nor others of their group; test images are not opened. Ends with a policy to paste. Exit code 0
    also where something is harmful.

    \b
    Examples:
      kerastl augment audit folder-classifier --set data.reader.path=photos
      kerastl augment audit mine.yaml --operations random_flip,random_hue --out audit
    """
    _check_out(out)
    good, run = _opened(recipe, sets)
    names = [name.strip() for name in operations.split(",") if name.strip()]
    if not names:
        raise RequestError("--operations names none. Write all, recipe, or names with commas.")
    from kerastl.cli._output import load_tensorflow

    load_tensorflow()
    from kerastl.audit import as_plain, lines, policy_yaml
    from kerastl.workflows.augment_audit import audit_recipe

    done = audit_recipe(good, operations=names, most_per_class=max_images, run=run, out=out)
    found = done.audit
    policy = policy_yaml(found.verdicts, found.class_names)
    plain = {**as_plain(found), "notes": list(done.notes), "policy": policy}
    if out is not None:
        _write(out, plain, policy, done)
    if as_json:
        click.echo(json.dumps(plain, indent=1))
        return
    click.echo("\n".join([*done.notes, *lines(found), "", policy.rstrip()]))
    if out is not None:
        click.echo(f"\nImages and figures: {out / 'audit.html'}, {out / 'audit.json'}")
        click.echo("They show images and paths of the data: they are as confidential as it is.")


def _opened(word: str, sets: tuple[str, ...]) -> tuple[Recipe, Path | None]:
    """Return the checked recipe, and the run folder where the word names one."""
    from kerastl import recipe as recipes
    from kerastl.workflows.check_recipe import check_recipe
    from kerastl.runs import RESOLVED_RECIPE

    folder = Path(word)
    if not folder.is_dir():
        return check_recipe(recipes.find(word), sets), None
    if not (folder / RESOLVED_RECIPE).is_file():
        raise RequestError(f"{word} is a folder, but no run folder: it has no {RESOLVED_RECIPE}.")
    return check_recipe(recipes.find(str(folder / RESOLVED_RECIPE)), sets), folder


def _check_out(out: Path | None) -> None:
    from kerastl.runs import is_new_or_empty

    if out is not None and not is_new_or_empty(out):
        raise RequestError(f"{out} exists already and is left as it is. Name another: --out DIR")


def _write(out: Path, plain: dict[str, Any], policy: str, done: Any) -> None:
    from kerastl.report.audit_page import write_audit_sheet
    from kerastl.runs import write_atomic, write_json

    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "audit.json", plain)
    write_atomic(out / "policy.yaml", policy)
    write_audit_sheet(
        out / "audit.html",
        done.audit,
        paths=done.paths,
        labels=done.labels,
        images=done.images,
        change=done.change,
    )


MOST = 32
"""Images, or samples of each, above which nobody looks."""


@click.command()
@click.argument("recipe")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Change one value.")
@click.option("--out", type=NamedPath(), help="Folder, new or empty.  [default: preview-RECIPE, numbered]")
@click.option("--images", type=click.IntRange(1, MOST), default=4, show_default=True, help="How many.")
@click.option("--samples", type=click.IntRange(0, MOST), default=3, show_default=True, help="Of each image.")
@click.option("--operation", metavar="NAME", help="Show this operation, or mixing, alone.")
@click.option(
    "--seed", type=click.IntRange(0, 2**31 - 1), help="Other images and samples than by the recipe's seed."
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
    recipe: str, sets: tuple[str, ...], out: Path | None, images: int, samples: int,
    operation: str | None, seed: int | None, opens: str,
) -> None:  # fmt: skip
    """Show training images as RECIPE changes them: the original left, what becomes of it right.

    Each operation at its lower and its upper end, with its strength in words, and samples; then all together; then
    mixed images with the shares of their labels. Writes preview.html and preview.png. Both hold images of the
    training split: they are as confidential as the data. Nothing is trained, and nothing written among the data.

    \b
    Examples:
      kerastl augment preview mine.yaml
      kerastl augment preview folder-classifier --set data.reader.path=photos --set augment=strong
      kerastl augment preview mine.yaml --operation random_rotation --images 8 --out turned
    """
    from kerastl import recipe as recipes
    from kerastl.workflows.check_recipe import check_recipe

    found = recipes.find(recipe)
    good = check_recipe(found, sets)
    from kerastl.cli._output import load_tensorflow

    load_tensorflow()
    from kerastl import workflows
    from kerastl.cli._output import near

    page = workflows.preview(
        good, name=found.name, out=out, pictures=images, samples=samples, operation=operation,
        seed=seed,
    )  # fmt: skip
    click.echo(f"The page to look at: {near(page)}")
    click.echo(f"The same as one image: {near(page.with_suffix('.png'))}")
    click.echo("Both hold images of the data: they are as confidential as it is.")
    if opens == "yes":
        click.launch(str(page))


@click.group()
def command() -> None:
    """Preview how training images are augmented, and check that it does not change their class.

    \b
    Examples:
      kerastl augment audit folder-classifier --set data.reader.path=photos
      kerastl augment preview folder-classifier --set data.reader.path=photos --set augment=medium
    """


command.add_command(audit)
command.add_command(preview)

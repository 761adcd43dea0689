"""`kerastl augment audit`: which operation at which strength changes the class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kerastl.cli._paths import NamedPath
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
    "--max-pictures",
    type=click.IntRange(10, 100_000),
    default=150,
    show_default=True,
    help="Judged at most, of each class.",
)
@click.option(
    "--out",
    type=NamedPath(),
    help="New folder for audit.json, policy.yaml and audit.html, which shows pictures.",
)
@click.option("--json", "as_json", is_flag=True, help="Write everything as JSON to stdout.")
def audit(
    recipe: str,
    sets: tuple[str, ...],
    operations: str,
    max_pictures: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Find which operation at which strength changes the class on these pictures.

    RECIPE is a shipped name, a file or a run folder. Training and validation pictures are judged by models that saw
    neither them nor others of their group; test pictures are not opened. Ends with a policy to paste. Exit code 0
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
    from kerastl.cli._quiet import load_tensorflow

    load_tensorflow()
    from kerastl.audit import as_plain, lines, policy_yaml
    from kerastl.workflows.augment_audit import audit_recipe

    done = audit_recipe(good, operations=names, most_per_class=max_pictures, run=run, out=out)
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
        click.echo(f"\nPictures and figures: {out / 'audit.html'}, {out / 'audit.json'}")
        click.echo("They show pictures and paths of the data: they are as confidential as it is.")


def _opened(word: str, sets: tuple[str, ...]) -> tuple[Recipe, Path | None]:
    """Return the checked recipe, and the run folder where the word names one."""
    from kerastl import recipe as recipes
    from kerastl.cli._recipes import checked
    from kerastl.runs import BEGUN

    folder = Path(word)
    if not folder.is_dir():
        return checked(recipes.find(word), sets), None
    if not (folder / BEGUN).is_file():
        raise RequestError(f"{word} is a folder, but no run folder: it has no {BEGUN}.")
    return checked(recipes.find(str(folder / BEGUN)), sets), folder


def _check_out(out: Path | None) -> None:
    from kerastl.runs import is_free

    if out is not None and not is_free(out):
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

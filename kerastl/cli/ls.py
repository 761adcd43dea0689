"""`kerastl ls`: list the shipped recipes, or finished runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kerastl import runs
from kerastl.cli._output import NonEmptyPath, json_option, shell_path
from kerastl.console import print_status
from kerastl.errors import RequestError, pluralize
from kerastl.recipe import catalog

if TYPE_CHECKING:
    from kerastl.runs import Run, Summary


@click.command()
@click.option(
    "--runs", "folder", type=NonEmptyPath(), is_flag=False, flag_value=str(runs.PARENT), metavar="[DIR]",
    help="List the finished runs in DIR and its subfolders. The default is runs.",
)  # fmt: skip
@json_option
def command(folder: Path | None, as_json: bool) -> None:
    """List the shipped recipes, or finished runs.

    Each recipe is listed with its purpose. With --runs, each finished run is listed with its data, its date, and its score
    on test images with the 95% interval, the newest run first. Without test images, the score is that of the
    validation images.

    \b
    Examples:
      kerastl ls
      kerastl ls --runs
      kerastl ls --runs experiments --json
    """
    if folder is not None:
        _list_runs(folder, as_json)
        return
    recipes = [catalog.find(name) for name in catalog.names()]
    if as_json:
        click.echo(json.dumps([{"name": recipe.name, "purpose": recipe.purpose} for recipe in recipes]))
        return
    width = max((len(recipe.name) for recipe in recipes), default=0)
    for recipe in recipes:
        click.echo(f"{recipe.name:<{width}}  {recipe.purpose}")
    click.echo("\nTo print a recipe: kerastl show NAME\nTo copy a recipe:  kerastl cp NAME FILE")


def _list_runs(folder: Path, as_json: bool) -> None:
    finished = runs.finished_runs(folder)
    if as_json:
        click.echo(json.dumps([_as_plain(run) for run in finished], indent=1))
    elif not finished:
        click.echo(f"There is no finished run in {shell_path(folder)}.")
    else:
        rows = [("run", "finished (UTC)", "score", "data"), *map(_cells, finished)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
            click.echo("  ".join(cells).rstrip())


def _summary(run: Run) -> Summary:
    """Return the summary of a run; an empty one, with a warning, if it cannot be read."""
    try:
        return runs.Summary.read(run.path)
    except RequestError as error:
        print_status(f"Warning: {error}")
        return runs.Summary()


def _cells(run: Run) -> tuple[str, ...]:
    from kerastl.report import format_metric, printable
    from kerastl.report.tables import column_title

    summary, score = _summary(run), "-"
    if headline := summary.headline:
        split = headline.split.replace("_", " ")
        score = f"{split} {column_title(headline.metric)} {format_metric(headline.estimate)}"
    data = [
        f"{printable(images.path)} ({pluralize(images.images, 'image')})" for images in summary.data.values()
    ]
    return shell_path(run.path), f"{run.finished_at:%Y-%m-%d %H:%M}", score, ", target: ".join(data)


def _as_plain(run: Run) -> dict[str, Any]:
    content = _summary(run).to_json()
    data = {
        name: {key: images[key] for key in ("path", "images")}
        for name, images in content.get("data", {}).items()
    }
    return {
        "run": str(run.path),
        "finished": f"{run.finished_at:%Y-%m-%dT%H:%M:%SZ}",
        "headline": content.get("headline"),
        "data": data,
    }

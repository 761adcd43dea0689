"""`kerastl export`: write a run's model in a form that others can serve."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kerastl import registry
from kerastl.errors import RequestError

if TYPE_CHECKING:
    from kerastl.export import Pruned

PORTABLE = "keras"


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "format_name",
    type=click.Choice(registry.names("format")),
    default="saved_model",
    show_default=True,
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Default: export/<format> in the run folder."
)
@click.option(
    "--with-samples", is_flag=True, help="Put a few of the run's test pictures in, unchanged."
)
@click.option(
    "--version",
    type=click.IntRange(min=1),
    help="The number to write. Default: the next, 1, 2, ...",
)
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    help="Remove the oldest versions, so that this many remain. Default: all stay.",
)
def command(
    run: Path,
    format_name: str,
    out: Path | None,
    with_samples: bool,
    version: int | None,
    keep: int | None,
) -> None:
    """Write the model of the finished run RUN into a numbered folder, and beside it what TensorFlow Serving needs.

    No version is ever overwritten. A file beside the versions that you changed stays as it is.

    The export holds no path, group or picture of the data, unless --with-samples puts pictures in. The format keras is
    for another hospital, which adapts the model to its own pictures.

    \b
    Example:
      kerastl export runs/folder-classifier-1
      kerastl verify runs/folder-classifier-1/export/saved_model
    """
    from kerastl.cli._quiet import load_tensorflow
    from kerastl.evaluation.trained import read_description

    read_description(run)
    if with_samples and format_name == PORTABLE:
        raise RequestError(
            f"--format {PORTABLE} is to travel without pictures. Leave out --with-samples."
        )
    load_tensorflow()
    from kerastl.export import changed_beside, export_run, prune

    folder = export_run(run, format_name, out, version=version)
    click.echo(f"Wrote {folder}")
    if with_samples:
        click.echo(_add_samples(run, folder))
    if keep is not None:
        _tell_pruned(prune(folder, keep))
    if changed := changed_beside(folder.parent):
        click.echo(f"Left as you changed it, in {folder.parent}: {', '.join(changed)}")
    words = ["kerastl", "verify", str(folder)]
    if not folder.resolve().is_relative_to(run.resolve()):
        words += ["--run", str(run)]
    click.echo(f"Check it: {shlex.join(words)}")
    if format_name == PORTABLE:
        source = shlex.quote(f"source.model={folder}")
        click.echo(
            "Adapt it without a picture that it learnt from: kerastl run hospital-source-free "
            f"--set {source} --set target.reader.path=B.csv"
        )


def _tell_pruned(pruned: Pruned) -> None:
    for path in pruned.removed:
        click.echo(f"Removed {path}")
    for path in pruned.left:
        click.echo(f"Left {path}: it is no version of this export")


def _add_samples(run: Path, folder: Path) -> str:
    """Put test pictures and the model's answers for them into an export; return what to tell."""
    from kerastl.evaluation.trained import load_trained
    from kerastl.export import expected_from, read_probe_pictures, run_pictures, write_samples
    from kerastl.export.probe_pictures import MOST_SAMPLES

    trained = load_trained(run)
    files = run_pictures(run, trained, limit=MOST_SAMPLES)
    pictures = read_probe_pictures(files, max_pixels=trained.max_pixels)
    if not pictures.encoded:
        return "No test picture of this run can be opened: the export holds no samples."
    write_samples(folder, pictures.encoded, expected_from(trained, pictures.encoded))
    return f"Put {len(pictures.encoded)} test pictures into {folder / 'samples'}"

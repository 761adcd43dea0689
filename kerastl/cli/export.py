"""`kerastl export`: write a run's model in a form that others can serve."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from kerastl import registry
from kerastl.errors import RequestError

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
    from kerastl.export import export_run

    folder = export_run(run, format_name, out, version=version)
    click.echo(f"Wrote {folder}")
    if with_samples:
        click.echo(_add_samples(run, folder))
    _tend(folder, keep)
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


def _tend(folder: Path, keep: int | None) -> None:
    """Remove old versions where asked to, and tell what else a server finds beside the one that was written."""
    from kerastl.export import changed_beside, prune
    from kerastl.export.version_numbers import next_number

    pruned = prune(folder, keep) if keep is not None else None
    for path in pruned.removed if pruned else ():
        click.echo(f"Removed {path}")
    for path in pruned.left if pruned else ():
        click.echo(f"Left {path}: it is no version of this export")
    highest = next_number(folder.parent) - 1
    if highest > int(folder.name):
        click.echo(f"A server answers with the highest version there: {highest}")
    if changed := changed_beside(folder.parent):
        click.echo(f"Left as you changed it, in {folder.parent}: {', '.join(changed)}")


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

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
def command(run: Path, format_name: str, out: Path | None, with_samples: bool) -> None:
    """Write the model of the finished run RUN into the next numbered folder, 1, 2, ...

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

    folder = export_run(run, format_name, out)
    click.echo(f"Wrote {folder}")
    if with_samples:
        click.echo(_add_samples(run, folder))
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

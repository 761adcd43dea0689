"""`kerastl export`: write a run's model in a form that others can serve."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import click

from kerastl import registry
from kerastl.cli._output import NonEmptyPath, describe_conversion
from kerastl.errors import RequestError
from kerastl.export.formats import check_formats, quantize_choices

PORTABLE = "keras"


@click.command()
@click.argument("run", type=NonEmptyPath())
@click.option(
    "--format",
    "format_name",
    type=click.Choice(registry.names("format")),
    default="saved_model",
    show_default=True,
)
@click.option("--out", type=NonEmptyPath(), help="Default: export/<format> in the run folder.")
@click.option(
    "--temperature",
    type=click.Choice(["validation", "none"]),
    default="validation",
    show_default=True,
    help="Answer probabilities at the temperature that fits validation best, or as learnt.",
)
@click.option(
    "--threshold",
    type=click.Choice(["none", "specificity", "sensitivity"]),
    default="none",
    show_default=True,
    help="Predict by this operating point of validation; none: the most probable class.",
)
@click.option(
    "--prevalence",
    "prevalence",
    multiple=True,
    metavar="target|CLASS=SHARE",
    help="Correct for the prevalence estimated at the target, or for one share a class.",
)
@click.option(
    "--quantize",
    type=click.Choice(sorted({one for name in registry.names("format") for one in quantize_choices(name)})),
    help="Of the format litert: smaller weights (float16), or 8-bit weights and computation.",
)
@click.option("--with-samples", is_flag=True, help="Put a few of the run's test images in, unchanged.")
@click.option(
    "--version", type=click.IntRange(min=1), help="The number to write. Default: the next, 1, 2, ..."
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
    temperature: Literal["validation", "none"],
    threshold: Literal["none", "specificity", "sensitivity"],
    prevalence: tuple[str, ...],
    quantize: str | None,
    with_samples: bool,
    version: int | None,
    keep: int | None,
) -> None:
    """Write the model of the finished run RUN into a numbered folder, and beside it what TensorFlow Serving needs.

    No version is ever overwritten. A file beside the versions that you changed stays as it is.

    The export holds no path, group or image of the data, unless --with-samples puts images in. The format keras is
    for another hospital, which adapts the model to its own images. The formats onnx, litert and openvino take decoded
    images, not files, and need their extras, as in pip install 'kerastl[onnx]'.

    \b
    Example:
      kerastl export runs/folder-classifier-1
      kerastl verify runs/folder-classifier-1/export/saved_model
      kerastl export runs/folder-classifier-1 --format litert --quantize int8
      kerastl export runs/x-rays-1 --threshold sensitivity --prevalence ill=0.02 --prevalence well=0.98
    """
    from kerastl.cli._output import load_tensorflow
    from kerastl.evaluation.trained_model import read_description
    from kerastl.export.postprocess import PostprocessingOptions, resolve_postprocessing

    described = read_description(run)
    check_formats([format_name], quantize)
    options = PostprocessingOptions(temperature, _shares(prevalence), threshold)
    postprocessing, problems = resolve_postprocessing(run, described.class_names, options)
    if problems:
        raise RequestError(f"{run} cannot be exported with these options.\n  " + "\n  ".join(problems))
    if with_samples and format_name == PORTABLE:
        raise RequestError(f"--format {PORTABLE} is to travel without images. Leave out --with-samples.")
    load_tensorflow()
    from kerastl.export import export_run

    folder = export_run(run, format_name, out, options=options, quantize=quantize, version=version)
    click.echo(f"Wrote {folder}")
    if format_name != PORTABLE:
        click.echo(postprocessing.describe(described.class_names))
    for line in describe_conversion(folder):
        click.echo(line)
    if with_samples:
        click.echo(_add_samples(run, folder))
    _tend(folder, keep)
    _say_what_next(run, folder, format_name)


def _shares(told: Sequence[str]) -> Literal["none", "target"] | dict[str, float]:
    """Read what --prevalence was given."""
    if not told:
        return "none"
    if tuple(told) == ("target",):
        return "target"
    shares = {}
    for one in told:
        name, separator, share = one.rpartition("=")
        twice = name in shares
        try:
            shares[name] = float(share)
        except ValueError:
            separator = ""
        if not separator or twice or not 0 <= shares[name] <= 1:
            raise RequestError(
                f"--prevalence {one}: target alone, or CLASS=SHARE once for each class, as ill=0.02"
            )
    return shares


def _say_what_next(run: Path, folder: Path, format_name: str) -> None:
    words = ["kerastl", "verify", str(folder)]
    if not folder.resolve().is_relative_to(run.resolve()):
        words += ["--run", str(run)]
    click.echo(f"Check it: {shlex.join(words)}")
    if format_name == PORTABLE:
        source = shlex.quote(f"source.model={folder}")
        click.echo(
            "Adapt it without an image that it learnt from: kerastl run hospital-source-free "
            f"--set {source} --set target.reader.path=B.csv"
        )


def _tend(folder: Path, keep: int | None) -> None:
    """Remove old versions where asked to, and tell what else a server finds beside the one that was written."""
    from kerastl.export import modified_serving_files, prune
    from kerastl.export.versions import highest_version

    pruned = prune(folder, keep) if keep is not None else None
    for path in pruned.removed if pruned else ():
        click.echo(f"Removed {path}")
    for path in pruned.skipped if pruned else ():
        click.echo(f"Kept {path}: it is not a version of this export")
    highest = highest_version(folder.parent)
    if highest > int(folder.name):
        click.echo(f"A server answers with the highest version there: {highest}")
    if changed := modified_serving_files(folder.parent):
        click.echo(f"Left as it is, as kerastl did not write it so, in {folder.parent}: {', '.join(changed)}")


def _add_samples(run: Path, folder: Path) -> str:
    """Put test images and the model's answers for them into an export; return what to tell."""
    from kerastl.evaluation.trained_model import load_trained
    from kerastl.export import expected_predictions, read_probe_images, select_test_images, write_samples
    from kerastl.export.manifest import read_manifest
    from kerastl.export.probe_images import MAX_SAMPLES

    trained = load_trained(run)
    files = select_test_images(run, trained, limit=MAX_SAMPLES)
    images = read_probe_images(files, max_pixels=trained.max_pixels)
    if not images.encoded:
        return "No test image of this run can be opened: the export holds no samples."
    postprocessing = read_manifest(folder).postprocessing
    write_samples(folder, images.encoded, expected_predictions(trained, images.encoded, postprocessing))
    return f"Put {len(images.encoded)} test images into {folder / 'samples'}"

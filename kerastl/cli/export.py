"""`kerastl export`: export the model of a run for serving."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import click

from kerastl import evaluation, export, registry
from kerastl.cli._output import Choice, RunPath, option, out_option, print_conversion
from kerastl.console import load_tensorflow, status
from kerastl.errors import RequestError, problems_of, set_option, shell_command


@click.command()
@click.argument("run", type=RunPath())
@option("--format", "format_name", type=Choice(registry.names("format")), default="saved_model")
@out_option("Output folder.  [default: export/FORMAT in the run folder]")
@option(
    "--temperature",
    type=Choice(["validation", "none"]),
    help="Scale the probabilities with the temperature fitted on validation images, or not at all.  "
    "[default: as in the run]",
)
@option(
    "--threshold",
    type=Choice(["none", "specificity", "sensitivity"]),
    default="none",
    help="Predict with the threshold of this operating point, or predict the most probable class.",
)
@click.option(
    "--prevalence",
    "prevalence",
    multiple=True,
    metavar="target|CLASS=SHARE",
    help="Correct the probabilities for the prevalence estimated at the target, or for a known one, once per class.",
)
@click.option(
    "--quantize",
    type=Choice(
        sorted({choice for name in registry.names("format") for choice in registry.quantize_choices(name)})
    ),
    help="Quantization of the format litert: float16 weights, or 8-bit weights and computation.",
)
@click.option(
    "--with-resize",
    is_flag=True,
    help="Let the models of onnx, litert and openvino resize the images, exactly as in training.",
)
@click.option(
    "--model-name",
    metavar="NAME",
    help="Name of the model on a server, in Docker Compose and in Kubernetes.  [default: that of the versions in the "
    "folder, or export.model_name of the recipe]",
)
@click.option("--with-samples", is_flag=True, help="Include a few test images of the run.")
@click.option("--version", type=click.IntRange(min=1), help="Version number.  [default: the next]")
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    help="Number of versions to keep; older ones are deleted.  [default: all]",
)
def command(
    run: Path,
    format_name: str,
    out: Path | None,
    temperature: Literal["validation", "none"] | None,
    threshold: Literal["none", "specificity", "sensitivity"],
    prevalence: tuple[str, ...],
    quantize: str | None,
    with_resize: bool,
    model_name: str | None,
    with_samples: bool,
    version: int | None,
    keep: int | None,
) -> None:
    """Export the model of a finished run for serving. Writes a numbered version. The format saved_model also writes
    configuration files for TF Serving, and onnx those for Triton and KServe.

    Versions are not overwritten, and configuration files that you have edited are kept.

    The export contains no paths, groups or images of the data, except for images with --with-samples. The format keras
    is for another hospital, which adapts the model to its own images. The formats onnx, litert and openvino take
    decoded images instead of files and need extras, such as pip install 'kerastl[onnx]'. Their folders contain a client
    that does not need kerastl.

    \b
    Examples:
      kerastl export runs/folder-classifier-1
      kerastl verify runs/folder-classifier-1/export/saved_model
      kerastl export runs/folder-classifier-1 --format litert --quantize int8
      kerastl export runs/x-rays-1 --model-name x-rays --out served/x-rays
      kerastl export runs/x-rays-1 --threshold sensitivity --prevalence ill=0.02 --prevalence well=0.98
    """
    described = evaluation.read_description(run)
    export.check_formats([format_name], quantize, with_resize)
    options = export.PostprocessingOptions(temperature, _shares(prevalence), threshold)
    postprocessing, problems = export.resolve_postprocessing(run, described.class_names, options)
    target = out or run / export.EXPORT_FOLDER / format_name
    problems += [str(problem) for problem in problems_of("--out", export.check_writable, target)]
    if format_name != export.PORTABLE:

        def check_name() -> None:
            name = export.resolve_model_name(target, model_name, run)
            export.check_formats([format_name], model_name=name)

        problems += [str(problem) for problem in problems_of("--model-name", check_name)]
    elif model_name is not None:
        problems.append(f"--model-name: no server runs the format {export.PORTABLE}. Remove --model-name.")
    if problems:
        raise RequestError(f"{run} cannot be exported with these options.\n  " + "\n  ".join(problems))
    if with_samples and format_name == export.PORTABLE:
        raise RequestError(f"--format {export.PORTABLE} cannot contain images. Remove --with-samples.")
    if version is not None:
        export.check_version_free(target, version)
    load_tensorflow()
    with status(f"Exporting to {format_name}", prints_line=False):
        folder = export.export_run(
            run, format_name, out, options=options, quantize=quantize, with_resize=with_resize, version=version,
            model_name=model_name,
        )  # fmt: skip
    click.echo(f"Wrote {folder}")
    if format_name != export.PORTABLE:
        click.echo(postprocessing.describe(described.class_names))
    print_conversion(folder)
    if with_samples:
        click.echo(_add_samples(run, folder))
    _update_versions(folder, keep)
    _print_next_commands(run, folder, format_name)


def _shares(values: Sequence[str]) -> Literal["none", "target"] | dict[str, float]:
    """Parse the values of --prevalence."""
    if not values:
        return "none"
    if tuple(values) == ("target",):
        return "target"
    shares = {}
    for value in values:
        name, separator, share = value.rpartition("=")
        is_repeated = name in shares
        try:
            shares[name] = float(share)
        except ValueError:
            separator = ""
        if not separator or is_repeated or not 0 <= shares[name] <= 1:
            raise RequestError(
                f"--prevalence {value} must be target, or CLASS=SHARE with a share from 0 to 1, such as ill=0.02, once per class."
            )
    return shares


def _print_next_commands(run: Path, folder: Path, format_name: str) -> None:
    words = ["kerastl", "verify", str(folder)]
    if not folder.resolve().is_relative_to(run.resolve()):
        words += ["--run", str(run)]
    click.echo(f"To verify it: {shell_command(*words)}")
    if format_name == export.PORTABLE:
        click.echo(
            "To adapt it without the source images: kerastl run hospital-source-free "
            f"{set_option('source.model', folder)} --target B.csv"
        )


def _update_versions(folder: Path, keep: int | None) -> None:
    """Delete old versions if requested, and report other versions and edited configuration files."""
    pruned = export.prune(folder, keep) if keep is not None else None
    for path in pruned.removed if pruned else ():
        click.echo(f"Deleted {path}")
    for path in pruned.skipped if pruned else ():
        click.echo(f"Kept {path}: it is not a version of this export")
    highest = export.highest_version(folder.parent)
    if highest > int(folder.name):
        click.echo(f"TF Serving serves the highest version: {highest}")
    if changed := export.modified_serving_files(folder.parent):
        click.echo(f"Kept edited files in {folder.parent}: {', '.join(changed)}")


def _add_samples(run: Path, folder: Path) -> str:
    """Add test images and their predictions to an export, and return a message."""
    probes = export.load_probe_set(folder, images=(), run=run, limit=export.MAX_SAMPLES)
    if probes.expected is None:
        return "No test images of this run can be read: the export contains no samples."
    export.write_samples(folder, probes.encoded, probes.expected)
    return f"Added {len(probes.encoded)} test images to {folder / 'samples'}"

"""`kerastl data`: create phantom datasets."""

from __future__ import annotations

from pathlib import Path

import click

from kerastl import data
from kerastl.cli import SuggestingGroup
from kerastl.cli._output import Choice, NonEmptyPath, option
from kerastl.errors import shell_command


@click.group(cls=SuggestingGroup)
def command() -> None:
    """Create the images of a phantom hospital.

    \b
    Example:
      kerastl data phantom hospital_a --hospital a
    """


@command.command()
@click.argument("out", type=NonEmptyPath())
@click.option(
    "--hospital",
    type=Choice(["a", "b", "c"]),
    required=True,
    help="a: reference scanner. b: a different scanner, a strong domain shift. c: scanner of a, lower prevalence.",
)
@option("--patients", type=click.IntRange(2, 10000), default=80, help="Number of patients.")
@option("--seed", type=click.IntRange(0, 2**32 - 1), default=7, help="Seed of the images.")
@option("--slices", type=click.IntRange(1, 32), default=5, help="Slices per patient.")
@option("--image-size-px", type=click.IntRange(32, 256), default=128, help="Side of the square images.")
@option(
    "--region",
    type=Choice(["lung", "head"]),
    default="lung",
    help="A lung with a nodule, or a head with a lesion.",
)
def phantom(
    out: Path, hospital: str, patients: int, seed: int, slices: int, image_size_px: int, region: str
) -> None:
    """Write the CT slices of a phantom hospital to a folder. Each patient has a benign or malignant nodule.

    The images are phantoms of a simulated scanner and have no clinical meaning. The new or empty folder OUT then contains
    images/, masks/ and labels.csv (path, label, patient_id, site, mask, box). The same options give the same bytes.

    \b
    Example:
      kerastl data phantom hospital_a --hospital a --patients 80 --seed 7
    """
    data.write_phantoms(
        out,
        hospital=hospital,
        patients=patients,
        seed=seed,
        slices_per_patient=slices,
        image_size_px=image_size_px,
        region=region,
    )
    click.echo(f"Wrote {patients * slices} slices of {patients} phantom patients to {out}.")
    words = ("--data", out / "labels.csv", "--set", "data.split.group_by=patient_id")
    click.echo(f"To train on them: {shell_command('kerastl', 'run', 'folder-classifier', *words)}")

"""Which published weights belong to a backbone, and where they lie on this machine. No TensorFlow."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerastl.errors import RequestError
from kerastl.models.backbone import PublishedWeights, get_backbone, resolve_options, resolve_image_size, described


@dataclass(frozen=True)
class LocatedWeights:
    """Weights that lie on this machine.

    Args:
        path: the file.
        weights: the row of the table it belongs to.
        notes: what the user should know of the choice, one line each.
    """

    path: Path
    weights: PublishedWeights
    notes: tuple[str, ...]


def models_folder() -> Path:
    """Return where Keras keeps weights: `$KERAS_HOME/models`, by default `~/.keras/models`.

    The environment is read at each call; Keras itself reads it once, when it is imported.
    """
    home = os.environ.get("KERAS_HOME")
    return (Path(home).expanduser() if home else Path.home() / ".keras") / "models"


def published_weights(name: str, *, image_size_px: int | None = None, **options: Any) -> list[PublishedWeights]:
    """Return the published weights that fit, those trained on the nearest image size first.

    Args:
        name: the backbone.
        image_size_px: side of the images; the published one where None.
        **options: the family's options.

    Raises:
        RequestError: nothing is published for these options; the text lists what is.
    """
    backbone = get_backbone(name)
    size = resolve_image_size(name, image_size_px)
    chosen = resolve_options(name, options)
    if not backbone.weights:
        raise RequestError(
            f"No weights are published for {name}. Write `weights: none`, or name a file or a run."
        )
    fitting = [row for row in backbone.weights if chosen | dict(row.options) == chosen]
    if not fitting:
        rows = dict.fromkeys(row.options for row in backbone.weights)
        known = "; ".join(described("", None, dict(row)).strip(" ()") for row in rows)
        raise RequestError(
            f"No ImageNet weights are published for {described(name, None, chosen)}. "
            f"Published: {known}. Or write `weights: none`, or name a file or a run."
        )
    return sorted(fitting, key=lambda row: (abs((row.size_px or size) - size), -(row.size_px or 0)))


def locate_weights(name: str, *, image_size_px: int | None = None, **options: Any) -> LocatedWeights:
    """Find the published weights of a backbone on this machine; nothing is downloaded.

    Where files differ by image size and the nearest one is absent, the next nearest that is
    here is taken, with a note: a network runs at any size, and weights of another size are far
    better than none.

    Args:
        name: the backbone.
        image_size_px: side of the images; the published one where None.
        **options: the family's options.

    Raises:
        RequestError: they are not here; the text says what to do.
    """
    rows = published_weights(name, image_size_px=image_size_px, **options)
    size = resolve_image_size(name, image_size_px)
    for row in rows:
        path = models_folder() / row.file
        if path.is_file():
            return LocatedWeights(path, row, _notes(name, row, size))
    raise RequestError(missing_weights_message(name, rows[0], size, options))


def find_cached_weights(name: str, *, image_size_px: int | None = None, **options: Any) -> Path | None:
    """Return the file that `weights="imagenet"` would load, None where it is not on this machine.

    Raises:
        RequestError: no such backbone, or nothing is published for these options.
    """
    rows = published_weights(name, image_size_px=image_size_px, **options)
    paths = (models_folder() / row.file for row in rows)
    return next((path for path in paths if path.is_file()), None)


def cached_files(name: str) -> list[tuple[Path, PublishedWeights, bool]]:
    """Return the files of a backbone that lie on this machine: path, row, whether with top."""
    folder = models_folder()
    return [
        (folder / file, row, top)
        for row in get_backbone(name).weights
        for file, top in ((row.file, False), (row.top_file, True))
        if (folder / file).is_file()
    ]


def missing_weights_message(name: str, wanted: PublishedWeights, size: int, options: dict[str, Any]) -> str:
    """Say which file is wanted, where it goes, and what else can be done."""
    file = wanted.file
    command = f"kerastl weights fetch {name}"
    command += f" --image-size-px {size}" if wanted.size_px else ""
    command += "".join(f" --option {key}={value}" for key, value in options.items())
    return (
        f"The ImageNet weights of {described(name, wanted.size_px, options)} are not on this "
        f"machine.\n"
        f"  Put {file} here: {models_folder() / file}\n"
        f"  or, with a network: {command}\n"
        f"  or start from random weights: weights: none\n"
        f"  or from a file (.h5, .weights.h5, .keras) or run folder: weights: PATH"
    )


def fetch_command(name: str, row: PublishedWeights) -> str:
    """Return the command that downloads the file of a row."""
    size = f" --image-size-px {row.size_px}" if row.size_px else ""
    return f"kerastl weights fetch {name}{size}" + "".join(
        f" --option {key}={value}" for key, value in row.options
    )


def _notes(name: str, row: PublishedWeights, size: int) -> tuple[str, ...]:
    if row.size_px in (None, size):
        return ()
    return (f"{name}: the weights were trained on images of {row.size_px} px, yours are {size} px.",)

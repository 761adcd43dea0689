"""Published weights of a backbone, and their location in the Keras cache. TensorFlow is not imported."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerastl.errors import RequestError, setting, shell_command
from kerastl.image_size import Size, format_size, plain_size
from kerastl.models.backbone import (
    PublishedWeights,
    format_backbone,
    get_backbone,
    resolve_image_size,
    resolve_options,
)


@dataclass(frozen=True)
class LocatedWeights:
    """A weights file in the Keras cache.

    Args:
        path: The file.
        weights: The description of the file.
        notes: Remarks for the user, one line each.
    """

    path: Path
    weights: PublishedWeights
    notes: tuple[str, ...]


def models_folder() -> Path:
    """Return the folder of Keras's weights: `$KERAS_HOME/models`, by default `~/.keras/models`.

    The environment variable is read at each call; Keras reads it once, on import.
    """
    home = os.environ.get("KERAS_HOME")
    return (Path(home).expanduser() if home else Path.home() / ".keras") / "models"


def published_weights(
    name: str, *, image_size_px: int | Size | None = None, **options: Any
) -> list[PublishedWeights]:
    """Return the published weights for the options, nearest image size first.

    Args:
        name: Name of the backbone.
        image_size_px: Side length or (height, width) of the images; None means the published size.
        **options: Options of the family.

    Raises:
        RequestError: If there are no published weights for these options.
    """
    backbone = get_backbone(name)
    size = resolve_image_size(name, image_size_px)
    chosen = resolve_options(name, options)
    if not backbone.weights:
        raise RequestError(
            f"No weights are published for {name}. Use `{setting('weights', None)}`, a file, or a run folder."
        )
    fitting = [row for row in backbone.weights if chosen | dict(row.options) == chosen]
    if not fitting:
        rows = dict.fromkeys(row.options for row in backbone.weights)
        known = "; ".join(format_backbone("", None, dict(row)).strip(" ()") for row in rows)
        raise RequestError(
            f"No ImageNet weights are published for {format_backbone(name, None, chosen)}. "
            f"Published: {known}. Or use `{setting('weights', None)}`, a file, or a run folder."
        )
    side = math.sqrt(math.prod(size))  # of a square with as many pixels
    return sorted(fitting, key=lambda row: (abs((row.size_px or side) - side), -(row.size_px or 0)))


def locate_weights(
    name: str, *, image_size_px: int | Size | None = None, **options: Any
) -> LocatedWeights | None:
    """Find the published weights of a backbone in the Keras cache, without downloading. None if they are not cached.

    If files differ by image size and the nearest size is not cached, the next nearest is used, with a note: a
    network accepts any size, and weights of another size are much better than none.

    Args:
        name: Name of the backbone.
        image_size_px: Side length or (height, width) of the images; None means the published size.
        **options: Options of the family.

    Raises:
        RequestError: If there is no such backbone, or there are no published weights for these options.
    """
    size = resolve_image_size(name, image_size_px)
    for row in published_weights(name, image_size_px=image_size_px, **options):
        path = models_folder() / row.file
        if path.is_file():
            note = f"{name}: the weights were trained on {row.size_px} px images, but the images have {format_size(size)}."
            return LocatedWeights(path, row, () if row.size_px in (None, plain_size(size)) else (note,))
    return None


def cached_files(name: str) -> list[tuple[Path, PublishedWeights, bool]]:
    """Return the cached files of a backbone: path, description, whether with top."""
    folder = models_folder()
    return [
        (folder / file, row, top)
        for row in get_backbone(name).weights
        for file, top in ((row.file, False), (row.top_file, True))
        if (folder / file).is_file()
    ]


def missing_weights_message(name: str, image_size_px: int | Size | None, options: dict[str, Any]) -> str:
    """Return an error message with the missing file, its location, and alternatives."""
    row = published_weights(name, image_size_px=image_size_px, **options)[0]
    command = fetch_command(name, row.size_px, options)
    return (
        f"The ImageNet weights of {format_backbone(name, row.size_px, options)} are not cached.\n"
        f"  Download them: {command}\n"
        f"  or copy {row.file} to {models_folder() / row.file}\n"
        f"  or use random weights: {setting('weights', None)}\n"
        f"  or a file (.h5, .weights.h5, .keras) or run folder: {setting('weights', 'PATH')}"
    )


def fetch_command(name: str, size_px: int | None, options: Mapping[str, Any]) -> str:
    """Return the command that downloads a file; `size_px` is None if files do not differ by size."""
    size = ["--image-size-px", size_px] if size_px else []
    words = [word for key, value in options.items() for word in ("--option", f"{key}={value}")]
    return shell_command("kerastl", "weights", "fetch", name, *size, *words)

"""The published top of a backbone: ImageNet's 1,000 classes as one linear layer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kerastl.backbones.hdf5 import h5_datasets, reading
from kerastl.backbones.published import hash_problem
from kerastl.backbones.tables import backbone_named
from kerastl.backbones.weights import fetch_command, locate_weights, models_folder
from kerastl.errors import RequestError


class ImageNetHead(NamedTuple):
    """ImageNet's classes as a linear layer on globally averaged features.

    Args:
        class_names: 1,000 names; two pairs of classes share a name.
        wordnet_ids: 1,000 ids, as `n01440764`.
        kernel: `[features, 1000]` float32.
        bias: `[1000]` float32.
        path: the file with top that was read.
    """

    class_names: tuple[str, ...]
    wordnet_ids: tuple[str, ...]
    kernel: np.ndarray
    bias: np.ndarray
    path: Path


CLASS_INDEX = "imagenet_class_index.json"
NUM_CLASSES = 1000


def read_imagenet_head(
    name: str, *, image_size_px: int | None = None, **options: Any
) -> ImageNetHead | None:
    """Read the published top, where it lies on this machine.

    Args:
        name: the backbone.
        image_size_px: side of the pictures; the published one where None.
        **options: the family's options.

    Returns:
        The top that was trained with the body `locate_weights` finds; None where the file with top
        or Keras's `imagenet_class_index.json` is not cached, or the top is more than one linear
        layer.

    Raises:
        RequestError: a file is there but cannot be read, or is not the published one.
    """
    index = models_folder() / CLASS_INDEX
    if not backbone_named(name).linear_top or not index.is_file():
        return None
    path = _top_of_located_body(name, image_size_px, options)
    if path is None:
        return None
    with reading(path):
        kernel, bias = _last_layer(path)
    try:
        classes = json.loads(index.read_text(encoding="utf-8"))
        rows = [classes[str(number)] for number in range(NUM_CLASSES)]
        names, ids = [str(row[1]) for row in rows], [str(row[0]) for row in rows]
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise RequestError(f"{index} is not Keras's list of ImageNet's classes: {error}") from error
    return ImageNetHead(tuple(names), tuple(ids), kernel, bias, path)


def _last_layer(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the kernel `[features, 1000]` and the bias `[1000]` of the last layer, float32."""
    import h5py

    with h5py.File(path) as file:
        (_, kernel), (_, bias) = h5_datasets(file)[-2:]
        if kernel.shape[-1:] != (NUM_CLASSES,) or bias.shape != (NUM_CLASSES,):
            raise ValueError(f"its last layer has not {NUM_CLASSES} classes")
        # MobileNet's top is a 1x1 convolution, the same thing as a dense layer on pooled features.
        rows = np.asarray(kernel).reshape(-1, NUM_CLASSES)
        return rows.astype(np.float32), np.asarray(bias).astype(np.float32)


def _top_of_located_body(
    name: str, image_size_px: int | None, options: dict[str, Any]
) -> Path | None:
    """Return the file with top that belongs to the body in use: a top of another size fits no other."""
    try:
        body = locate_weights(name, image_size_px=image_size_px, **options)
    except RequestError:
        return None
    row = body.weights
    path = models_folder() / row.top_file
    if not path.is_file():
        return None
    problem = hash_problem(path, row.top_hash)
    if problem:
        raise RequestError(
            f"{path} is not the published head of {name}: {problem}\n"
            f"  Replace it with {row.top_url}\n"
            f"  or remove it, and the head starts new; the body alone: {fetch_command(name, row)}"
        )
    return path

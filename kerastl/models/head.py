"""The head of a starting model: kept when the classes are the same, carried over row by row, or renewed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from kerastl.errors import RequestError
from kerastl.models.backbone import get_backbone
from kerastl.models.weight_files import h5_datasets, hash_problem, reading
from kerastl.models.weights import fetch_command, locate_weights, models_folder


@dataclass(frozen=True)
class HeadReport:
    """What became of the head.

    Args:
        outcome: `kept` (the classes are the same set), `partly` (some have their row, or all have it
            from a head that knows more) or `renewed` (none has).
        carried: names of the classes whose rows were carried over.
        line: the same in words.
    """

    outcome: str
    carried: tuple[str, ...]
    line: str


def _same(name: str) -> str:
    """Return what two spellings of one class share: case, spaces, hyphens and underscores do not count."""
    return name.casefold().replace(" ", "_").replace("-", "_")


def carry_over_head(
    model: keras.Model,
    class_names: Sequence[str],
    *,
    start_names: Sequence[str],
    start_kernel: np.ndarray[Any, Any],
    start_bias: np.ndarray[Any, Any],
    start_ids: Sequence[str] = (),
) -> HeadReport:
    """Copy the rows of classes that the starting model knows, by name or by WordNet id.

    An equal number of classes with other names is not the same classes. A name that stands twice
    among the starting model's (ImageNet's `crane` is a bird and a machine) carries nothing over.

    Args:
        model: has a layer `head` with `len(class_names)` logits.
        class_names: of the model.
        start_names: of the starting model.
        start_kernel: `[features, start classes]`.
        start_bias: `[start classes]`.
        start_ids: other names of the same start classes, such as `n02123045`.

    Raises:
        ValueError: the starting head reads another number of features.
    """
    head = model.get_layer("head")
    kernel, bias = (np.array(value) for value in head.get_weights())
    if start_kernel.shape[0] != kernel.shape[0]:
        raise ValueError(
            f"the starting head reads {start_kernel.shape[0]} features, this one {kernel.shape[0]}"
        )
    where = _rows_by_name(start_names, start_ids)
    rows = {name: where[_same(name)] for name in class_names if _same(name) in where}
    for column, name in enumerate(class_names):
        if name in rows:
            kernel[:, column] = start_kernel[:, rows[name]]
            bias[column] = start_bias[rows[name]]
    head.set_weights([kernel, bias])
    twice = _twice(start_names) & {_same(name) for name in class_names}
    return _report(rows, class_names, len(start_names), sorted(twice))


def _rows_by_name(start_names: Sequence[str], start_ids: Sequence[str]) -> dict[str, int]:
    """Return where each name of the starting model leads; one that could be either of two rows, nowhere."""
    twice = _twice(start_names)
    where = {_same(name): row for row, name in enumerate(start_names) if _same(name) not in twice}
    return {_same(name): row for row, name in enumerate(start_ids)} | where


def _twice(names: Sequence[str]) -> set[str]:
    return {name for name, count in Counter(map(_same, names)).items() if count > 1}


def _report(
    rows: dict[str, int], class_names: Sequence[str], num_start: int, twice: Sequence[str]
) -> HeadReport:
    carried, total = tuple(rows), len(class_names)
    hint = ""
    if twice:
        hint = f"; {', '.join(twice)}: two classes of the starting model have that name, say which by its WordNet id"
    if not carried:
        line = "head renewed: the starting model knows none of these classes" + hint
        return HeadReport("renewed", (), line)
    if len(carried) < total:
        line = f"head partly kept: {len(carried)} of {total} classes carried over" + hint
    elif len(set(rows.values())) < num_start:
        line = f"head partly kept: all {total} classes carried over from a head of {num_start}"
    else:
        return HeadReport("kept", carried, "head kept: the classes are the same")
    return HeadReport("partly", carried, line)


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


def read_imagenet_head(name: str, *, image_size_px: int | None = None, **options: Any) -> ImageNetHead | None:
    """Read the published top, where it lies on this machine.

    Args:
        name: the backbone.
        image_size_px: side of the images; the published one where None.
        **options: the family's options.

    Returns:
        The top that was trained with the body `locate_weights` finds; None where the file with top
        or Keras's `imagenet_class_index.json` is not cached, or the top is more than one linear
        layer.

    Raises:
        RequestError: a file is there but cannot be read, or is not the published one.
    """
    index = models_folder() / CLASS_INDEX
    if not get_backbone(name).linear_top or not index.is_file():
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


def _top_of_located_body(name: str, image_size_px: int | None, options: dict[str, Any]) -> Path | None:
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

"""Initialize the head from a starting model: all rows, those of shared classes, or none."""

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
from kerastl.image_size import Size
from kerastl.models.backbone import get_backbone
from kerastl.models.functional import has_single_logit
from kerastl.models.weight_files import h5_datasets, hash_problem, open_h5, weights_file_errors
from kerastl.models.weights import fetch_command, locate_weights, models_folder


@dataclass(frozen=True)
class HeadReport:
    """How the head was initialized.

    Args:
        outcome: `kept` (same set of classes), `partly_kept` (some classes, or all from a head with more classes)
            or `replaced` (none).
        carried: Names of the classes with rows of the starting model.
        message: The result as a sentence.
    """

    outcome: str
    carried: tuple[str, ...]
    message: str


class InitialHead(NamedTuple):
    """The head of a starting model, linear on globally averaged features.

    Args:
        class_names: Names of its classes. Two classes can share a name, as two pairs of ImageNet classes do.
        kernel: `[features, classes]` float32.
        bias: `[classes]` float32.
        path: The file that contains it.
        wordnet_ids: Other names of the classes, e.g. `n02123045`, or none.
    """

    class_names: Sequence[str]
    kernel: np.ndarray[Any, Any]
    bias: np.ndarray[Any, Any]
    path: Path
    wordnet_ids: Sequence[str] = ()


def _normalize(name: str) -> str:
    """Normalize a class name: ignore case, spaces, hyphens and underscores."""
    return name.casefold().replace(" ", "_").replace("-", "_")


def copy_head_rows(model: keras.Model, class_names: Sequence[str], start: InitialHead) -> HeadReport:
    """Copy the rows of the classes that the starting model knows, by name or WordNet id.

    The number of classes alone means nothing. A name that occurs twice in the starting model (`crane` in
    ImageNet is a bird and a machine) is not copied.

    Args:
        model: Has a layer `head` with `len(class_names)` logits.
        class_names: Names of the classes of the model.
        start: The head of the starting model.

    Raises:
        ValueError: If the number of features differs.
    """
    head = model.get_layer("head")
    kernel, bias = head_rows(model)
    if start.kernel.shape[0] != kernel.shape[0]:
        raise ValueError(
            f"the starting head has {start.kernel.shape[0]} input features, but this head has {kernel.shape[0]}"
        )
    own, known = ([_normalize(name) for name in names] for names in (class_names, start.class_names))
    counts = Counter(known)
    row_of = {_normalize(name): row for row, name in enumerate(start.wordnet_ids)}
    row_of |= {name: row for row, name in enumerate(known) if counts[name] == 1}
    rows = {name: row_of[key] for name, key in zip(class_names, own, strict=True) if key in row_of}
    is_binary = has_single_logit(model)
    if is_binary and len(rows) < len(class_names):
        rows = {}  # the single row is the difference of both
    for column, name in enumerate(class_names):
        if name in rows:
            kernel[:, column] = start.kernel[:, rows[name]]
            bias[column] = start.bias[rows[name]]
    head.set_weights(
        [kernel, bias] if not is_binary else [kernel[:, 1:] - kernel[:, :1], bias[1:] - bias[:1]]
    )
    ambiguous = sorted({name for name in own if counts[name] > 1})
    return _report(rows, class_names, len(known), ambiguous)


def head_rows(model: keras.Model) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the kernel `[features, classes]` and the bias `[classes]` of the head. The row of a constant logit is 0."""
    kernel, bias = (np.array(value) for value in model.get_layer("head").get_weights())
    if has_single_logit(model):
        return np.pad(kernel, ((0, 0), (1, 0))), np.pad(bias, (1, 0))
    return kernel, bias


def _report(
    rows: dict[str, int], class_names: Sequence[str], num_start: int, ambiguous: Sequence[str]
) -> HeadReport:
    carried, total = tuple(rows), len(class_names)
    hint = ""
    if ambiguous:
        hint = (
            f"; {', '.join(ambiguous)}: two classes of the starting model have this name, use the WordNet id"
        )
    if not carried:
        message = "new head: the starting model has none of these classes" + hint
        return HeadReport("replaced", (), message)
    if len(carried) < total:
        message = f"head partly kept: rows of {len(carried)} of {total} classes copied" + hint
    elif len(set(rows.values())) < num_start:
        message = f"head partly kept: rows of all {total} classes copied from a head of {num_start}"
    else:
        return HeadReport("kept", carried, "head kept: same classes")
    return HeadReport("partly_kept", carried, message)


CLASS_INDEX = "imagenet_class_index.json"
NUM_CLASSES = 1000


def read_imagenet_head(
    name: str, *, image_size_px: int | Size | None = None, **options: Any
) -> InitialHead | None:
    """Read the published classification layer from the Keras cache.

    Args:
        name: Name of the backbone.
        image_size_px: Side length or (height, width) of the images; None means the published size.
        **options: Options of the family.

    Returns:
        The layer that belongs to the weights of `locate_weights`. None if the file with top or Keras's
        `imagenet_class_index.json` is not cached, or the top is not one linear layer.

    Raises:
        RequestError: If a file is damaged, or is not the published one.
    """
    index = models_folder() / CLASS_INDEX
    if not get_backbone(name).linear_top or not index.is_file():
        return None
    path = _top_of_located_body(name, image_size_px, options)
    if path is None:
        return None
    with weights_file_errors(path):
        kernel, bias = _last_layer(path)
    try:
        classes = json.loads(index.read_text(encoding="utf-8"))
        rows = [classes[str(number)] for number in range(NUM_CLASSES)]
        names, ids = [str(row[1]) for row in rows], [str(row[0]) for row in rows]
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise RequestError(
            f"{index} is not the ImageNet class index of Keras: {error}. Delete the file, and Keras downloads it again."
        ) from error
    return InitialHead(names, kernel, bias, path, ids)


def _last_layer(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the kernel `[features, 1000]` and the bias `[1000]` of the last layer, float32."""
    with open_h5(path) as file:
        (_, kernel), (_, bias) = h5_datasets(file)[-2:]
        if kernel.shape[-1:] != (NUM_CLASSES,) or bias.shape != (NUM_CLASSES,):
            raise ValueError(f"its last layer does not have {NUM_CLASSES} classes")
        # The top of MobileNet is a 1x1 convolution, equal to a dense layer on pooled features.
        rows = np.asarray(kernel).reshape(-1, NUM_CLASSES)
        return rows.astype(np.float32), np.asarray(bias).astype(np.float32)


def _top_of_located_body(name: str, image_size_px: int | Size | None, options: dict[str, Any]) -> Path | None:
    """Return the cached file with top that belongs to the weights in use, or None."""
    body = locate_weights(name, image_size_px=image_size_px, **options)
    if body is None:
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
            f"  or delete it to start with a new head. Backbone only: {fetch_command(name, row.size_px, dict(row.options))}"
        )
    return path

"""The head of a starting model: kept when the classes are the same, carried over row by row, or renewed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np


@dataclass(frozen=True)
class HeadReport:
    """What became of the head.

    Args:
        outcome: `kept` (every class has its row), `partly` (some have) or `renewed` (none has).
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

    An equal number of classes with other names is not the same classes.

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
    where = {_same(name): index for index, name in enumerate(start_ids)}
    where.update({_same(name): index for index, name in enumerate(start_names)})
    carried = []
    for column, name in enumerate(class_names):
        if _same(name) in where:
            kernel[:, column] = start_kernel[:, where[_same(name)]]
            bias[column] = start_bias[where[_same(name)]]
            carried.append(name)
    head.set_weights([kernel, bias])
    return _report(carried, class_names)


def _report(carried: Sequence[str], class_names: Sequence[str]) -> HeadReport:
    if not carried:
        line = "head renewed: the starting model knows none of these classes"
        return HeadReport("renewed", (), line)
    if len(carried) == len(class_names):
        return HeadReport("kept", tuple(carried), "head kept: the classes are the same")
    line = f"head partly kept: {len(carried)} of {len(class_names)} classes carried over"
    return HeadReport("partly", tuple(carried), line)

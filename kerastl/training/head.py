"""The head of a starting model: kept when the classes are the same, carried over row by row, or renewed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np


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

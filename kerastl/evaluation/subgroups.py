"""Scores by the values of columns that come along with the images, as sex or scanner."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from kerastl.data.records import natural_order
from kerastl.errors import RequestError
from kerastl.evaluation.bootstrap import COUNTED, Part, without_interval
from kerastl.evaluation.predictions import Array, Predictions

MOST_TEXTS = 30
MOST_NUMBERS = 12
"""Different numbers of a column above which it is cut at its quartiles."""
QUARTILES = (25.0, 50.0, 75.0)
NOT_GIVEN = ""
"""What images whose cell is empty are called, last in the table."""


def is_binned(values: Sequence[Any]) -> bool:
    """Tell whether a column holds numbers, too many different ones to stand for a subgroup each."""
    numbers = {_number(text) for text in map(_text, values) if text}
    return None not in numbers and len(numbers) > MOST_NUMBERS


def assign_subgroups(
    columns: Mapping[str, Sequence[Any]], training_counts: Sequence[bool]
) -> dict[str, tuple[str, ...]]:
    """Return the subgroup of each image by column: the text of its cell, or the range that its number lies in.

    Args:
        columns: name to a text or number an image; None, NaN and empty texts are not given.
        learnt_from: whether each is a training image of the source. Their quartiles cut a column of more than 12
            different numbers; those of all images where none is one.

    Raises:
        RequestError: a column has another length, or more than 30 different texts.
    """
    found, faults = {}, []
    for name, values in columns.items():
        texts = [_text(value) for value in values]
        several = len(set(texts) - {NOT_GIVEN})
        if len(texts) != len(training_counts):
            faults.append(f"the column {name!r} has {len(texts)} values for {len(training_counts)} images")
        elif is_binned(texts):
            found[name] = _cut(texts, training_counts)
        elif several > MOST_TEXTS:
            faults.append(
                f"the column {name!r} has {several} different texts, and at most {MOST_TEXTS} make subgroups. Numbers "
                "are cut into four ranges where every cell is a number or empty"
            )
        else:
            found[name] = tuple(texts)
    if faults:
        raise RequestError(f"evaluation.subgroups: {'; '.join(faults)}. Take the column out.")
    return found


def subgroup_scores(
    one: Predictions,
    columns: Mapping[str, Sequence[str]],
    drawn: Callable[[Predictions], Part],
    tell: Callable[[Part], dict[str, Any]],
) -> dict[str, Any]:
    """Return `{column: {value: M}}` for labelled images of one split.

    Args:
        one: the images.
        columns: name to the subgroup of each of them; empty: not given.
        drawn: makes resamples.
        tell: every overall figure of a part. Counts of images and groups are added to it.
    """
    return {
        name: {value: _told(one.take(rows), drawn, tell) for value, rows in _rows_by(values)}
        for name, values in columns.items()
    }


def _told(
    some: Predictions, drawn: Callable[[Predictions], Part], tell: Callable[[Part], dict[str, Any]]
) -> dict[str, Any]:
    part = drawn(some)
    counts = {"images": len(some.paths), "groups": part.drawn.groups}
    return {name: without_interval(count, COUNTED) for name, count in counts.items()} | tell(part)


def in_order(values: Iterable[str]) -> list[str]:
    """Return the values of a column as a table shows them: 2 before 10, those that are not given last."""
    present = set(values)
    return [*natural_order(present - {NOT_GIVEN}), *({NOT_GIVEN} & present)]


def _rows_by(values: Sequence[str]) -> list[tuple[str, list[int]]]:
    return [(name, [row for row, value in enumerate(values) if value == name]) for name in in_order(values)]


def _cut(texts: Sequence[str], training_counts: Sequence[bool]) -> tuple[str, ...]:
    """Return the range between quartiles that each number lies in; fewer than four where many are equal."""
    numbers = [_number(text) for text in texts]
    learnt = [number for number, is_in in zip(numbers, training_counts, strict=True) if is_in]
    known = [number for number in learnt if number is not None]
    known = known or [number for number in numbers if number is not None]
    edges: Array = np.unique(np.percentile(known, QUARTILES))
    words = [f"{edge:g}" for edge in edges]
    ranges = [f"under {words[0]}"]
    ranges += [f"{low} to under {high}" for low, high in pairwise(words)]
    ranges.append(f"{words[-1]} and over")
    return tuple(
        NOT_GIVEN if number is None else f"Q{place + 1}: {ranges[place]}"
        for number in numbers
        for place in [0 if number is None else int(np.searchsorted(edges, number, side="right"))]
    )


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NOT_GIVEN
    return str(value).strip()


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None

"""Subgroups by the values of additional columns of the images, such as sex or scanner."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from kerastl.data.identity import check_spellings, is_missing, is_number, normalize
from kerastl.data.records import Record, natural_order
from kerastl.errors import RequestError, raise_problems
from kerastl.evaluation.predictions import Array
from kerastl.options import describe_value

MAX_VALUES = 30
MAX_NUMBERS = 12
"""A column with more different numbers is divided at its quartiles."""
QUARTILES = (25.0, 50.0, 75.0)
UNKNOWN = ""
"""The subgroup of images with an empty cell, last in tables."""


def subgroup_columns(records: Sequence[Record]) -> dict[str, tuple[str, ...]]:
    """Return the cells of each column, one per image, by column name. A missing cell is empty."""
    cells = [dict(record.subgroups) for record in records]
    names = dict.fromkeys(name for row in cells for name in row)
    return {name: tuple(row.get(name, UNKNOWN) for row in cells) for name in names}


def is_binned(values: Sequence[Any]) -> bool:
    """Return whether a column has too many different numbers for one subgroup each."""
    numbers = {_number(text) for text in map(_text, values) if text}
    return None not in numbers and len(numbers) > MAX_NUMBERS


def clean_columns(columns: Any) -> dict[str, list[str]]:
    """Return columns from Python as a reader returns them: missing values are empty, and a number has one format.

    Raises:
        Problems: Values of a column are spellings of one value.
        RequestError: It is not a mapping from names to values.
    """
    if not isinstance(columns, Mapping) or any(np.ndim(values) != 1 for values in columns.values()):
        value = describe_value(columns)
        raise RequestError(f'subgroups: must be a mapping such as {{"sex": ["f", "m", ...]}}, got {value}.')
    cleaned, problems = {}, []
    for name, values in columns.items():
        texts = ["" if is_missing(text) else text for text in map(_text, values)]
        if all(map(is_number, filter(None, texts))):
            first = {normalize(text): text for text in reversed(texts)}
            texts = [first[normalize(text)] for text in texts]
        problems += check_spellings(dict.fromkeys(filter(None, texts), ""), f"column {name!r}")
        cleaned[name] = texts
    raise_problems(
        "subgroups", problems, "Use one spelling for each value, and different words for different values."
    )
    return cleaned


def assign_subgroups(
    columns: Mapping[str, Sequence[Any]], is_training: Sequence[bool]
) -> dict[str, tuple[str, ...]]:
    """Return the subgroup of each image by column: the text of its cell, or the range of its number.

    Args:
        columns: Name to a string or number per image. None, NaN and empty strings are unknown.
        is_training: Whether each image is a training image of the source. The quartiles of these images divide a column
            with more than 12 different numbers; without training images, those of all images.

    Raises:
        RequestError: If a column has the wrong length, or more than 30 different texts.
    """
    subgroups, faults = {}, []
    for name, values in columns.items():
        texts = [_text(value) for value in values]
        num_values = len(set(texts) - {UNKNOWN})
        if len(texts) != len(is_training):
            faults.append(f"column {name!r} has {len(texts)} values for {len(is_training)} images")
        elif is_binned(texts):
            subgroups[name] = _quartile_ranges(texts, is_training)
        elif num_values > MAX_VALUES:
            faults.append(
                f"column {name!r} has {num_values} distinct values, but at most {MAX_VALUES} are allowed (columns of numbers "
                "are divided into four ranges)"
            )
        else:
            subgroups[name] = tuple(texts)
    if faults:
        raise RequestError(f"evaluation.subgroups: {'; '.join(faults)}. Remove the column.")
    return subgroups


def sort_values(values: Iterable[str]) -> list[str]:
    """Return the different values of a column in natural order (2 before 10), unknown ones last."""
    present = set(values)
    return [*natural_order(present - {UNKNOWN}), *({UNKNOWN} & present)]


def _quartile_ranges(texts: Sequence[str], is_training: Sequence[bool]) -> tuple[str, ...]:
    """Return the range between quartiles of each number. There are fewer than four if many are equal."""
    numbers = [_number(text) for text in texts]
    known = [number for number, use in zip(numbers, is_training, strict=True) if use and number is not None]
    known = known or [number for number in numbers if number is not None]
    edges: Array = np.unique(np.percentile(known, QUARTILES))
    labels = [f"{edge:g}" for edge in edges]
    ranges = [
        f"under {labels[0]}",
        *(f"{low} to under {high}" for low, high in pairwise(labels)),
        f"{labels[-1]} and over",
    ]
    indices = [
        None if number is None else int(np.searchsorted(edges, number, side="right")) for number in numbers
    ]
    return tuple(UNKNOWN if index is None else f"Q{index + 1}: {ranges[index]}" for index in indices)


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return UNKNOWN
    return str(value).strip()


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None

"""What comes back from a server, whichever way it was asked. It comes from outside: its size is bounded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

MOST_BYTES = 16 * 2**20
"""Largest answer that is read; thirty times what four pictures and a thousand classes need."""
LONGEST_TEXT = 200
CLASSIFY = "classify"


@dataclass(frozen=True)
class Answers:
    """What was answered for n pictures.

    Args:
        class_names: n rows, each in the order of that row's probabilities.
        probabilities: `[n, classes]` float32; nothing is known of its values.
        predicted: n names; None where the interface has no place for them.
    """

    class_names: tuple[tuple[str, ...], ...]
    probabilities: Floats
    predicted: tuple[str, ...] | None


class LiveFault(Exception):
    """Something is wrong with a server or its answers. The text says what, and what to type next.

    Args:
        text: one line.
        gone: it cannot be reached, so that asking on is no use.
    """

    def __init__(self, text: str, *, gone: bool = False) -> None:
        self.gone = gone
        super().__init__(text)


def clean(text: str) -> str:
    """Return a server's words in one line, without what moves a terminal's cursor, and not too long."""
    words = "".join(one for one in " ".join(text.split()) if one.isprintable())
    return words if len(words) <= LONGEST_TEXT else f"{words[: LONGEST_TEXT - 3]}..."


def reason_in(text: str) -> str:
    """Return why TensorFlow refused an input, without where in the graph that was noticed."""
    return clean(text.rpartition("assertion failed: ")[2])


def as_floats(rows: Any, num_pictures: int) -> Floats:
    """Return probabilities as an array.

    Raises:
        LiveFault: not `num_pictures` rows of equally many numbers.
    """
    try:
        array = np.asarray(rows)
    except ValueError:
        array = np.asarray(None)
    if array.ndim != 2 or len(array) != num_pictures or array.dtype.kind not in "fi":
        raise LiveFault(f"probabilities are not {num_pictures} rows of equally many numbers")
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def as_names(row: Any, count: int) -> tuple[str, ...]:
    """Return class names.

    Raises:
        LiveFault: not `count` texts.
    """
    whole = isinstance(row, Sequence) and not isinstance(row, str) and len(row) == count
    if not whole or not all(isinstance(name, str) for name in row):
        raise LiveFault(f"class names are not {count} texts a picture")
    return tuple(row)

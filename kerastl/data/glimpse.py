"""A look at the stored values of a few pictures: whether they hold anything, and whether a window fits them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kerastl.data.convert import HEADER_BYTES, is_16_bit_grey
from kerastl.data.decode import decode_image
from kerastl.data.records import Record

MOST = 64


@dataclass(frozen=True)
class Glimpse:
    """What a few pictures showed.

    Args:
        looked_at: how many.
        constant: how many hold one and the same value in every pixel.
        outside: share of the pixels of 16-bit grey pictures that lie outside the window, 0 to 1; None where
            there is none of these, or no window.
    """

    looked_at: int
    constant: int
    outside: float | None


def some_of(records: Sequence[Record]) -> list[Record]:
    """Return at most 64 records, at equal steps."""
    places = np.linspace(0, len(records) - 1, min(MOST, len(records))).round().astype(int)
    return [records[place] for place in places]


def is_deep(file: Path) -> bool:
    """Say from the header whether a picture is 16-bit grey."""
    with file.open("rb") as stream:
        return is_16_bit_grey(stream.read(HEADER_BYTES))


def glimpse(
    records: Sequence[Record], *, window: tuple[float, float] | None, max_pixels: int
) -> Glimpse:
    """Decode a few checked pictures.

    Args:
        records: all of these are decoded.
        window: (low, high) in stored values of 16-bit grey pictures.
        max_pixels: as in `decode_image`.
    """
    constant, outside, pixels = 0, 0, 0
    for record in records:
        content = record.file.read_bytes()
        if not is_16_bit_grey(content[:HEADER_BYTES]):
            values = decode_image(content, max_pixels=max_pixels).numpy()
            constant += bool(values.min() == values.max())
            continue
        # The full window: 65,535 levels as 0 to 255.
        levels = decode_image(content, max_pixels=max_pixels).numpy()[..., 0] * 257.0
        constant += bool(levels.min() == levels.max())
        if window is not None:
            pixels += levels.size
            # Half a level aside: they were divided and multiplied.
            outside += int(((levels < window[0] - 0.5) | (levels > window[1] + 0.5)).sum())
    return Glimpse(len(records), constant, outside / pixels if pixels else None)

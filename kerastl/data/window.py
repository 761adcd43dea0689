"""The one window of a data set's 16-bit pictures: from what the training split holds, never a picture's own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from kerastl.console import track
from kerastl.data.convert import HEADER_BYTES, is_16_bit_grey
from kerastl.data.records import Record

LEVELS = 65536
LOW_FRACTION, HIGH_FRACTION = 0.005, 0.995


def auto_window(records: Sequence[Record]) -> tuple[float, float] | None:
    """Return the 0.5 and 99.5 percentiles of the stored values of all 16-bit grey pictures together.

    Args:
        records: the training split, checked; pictures of 8 bits are passed over.

    Returns:
        (low, high) in stored values, low < high; None when no picture is 16-bit grey.
    """
    threads = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        counted = pool.map(_levels, [record.file for record in records])
        total = np.zeros(LEVELS, np.int64)
        for levels in track(counted, "finding the window", len(records)):
            if levels is not None:
                total += levels
    if not total.any():
        return None
    reached = np.cumsum(total) / total.sum()
    low = int(np.searchsorted(reached, LOW_FRACTION))
    high = int(np.searchsorted(reached, HIGH_FRACTION))
    # Pictures of one grey level have no width of their own.
    return float(low), float(max(high, low + 1))


def _levels(file: Path) -> Any:
    """Return how often each stored value occurs, `[65536]` int64; None when not 16-bit grey."""
    import tensorflow as tf

    content = file.read_bytes()
    if not is_16_bit_grey(content[:HEADER_BYTES]):
        return None
    pixels = tf.io.decode_png(content, channels=3, dtype=tf.uint16).numpy()[..., 0]
    return np.bincount(pixels.ravel(), minlength=LEVELS)

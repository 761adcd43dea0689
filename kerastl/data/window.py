"""The window of 16-bit grayscale images: the stored values that become black and white."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

from kerastl.console import print_status, track
from kerastl.data.convert import NARROW, NUM_THREADS, is_16_bit_file, is_16_bit_gray
from kerastl.data.records import Record
from kerastl.errors import pluralize

LEVELS = 65536
LOW_FRACTION, HIGH_FRACTION = 0.005, 0.995
MANY = 0.05


def auto_window(records: Sequence[Record]) -> tuple[float, float] | None:
    """Compute the 0.5 and 99.5 percentiles of the stored values of all 16-bit grayscale images.

    Prints a warning if some of the images are much darker than others, for example 12-bit among 16-bit images.

    Args:
        records: Readable images of the training split. 8-bit images are ignored.

    Returns:
        `(low, high)` in stored values with low < high, or None without 16-bit grayscale images.
    """
    import numpy as np

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        histograms = pool.map(_histogram, [record.file for record in records])
        total = np.zeros(LEVELS, np.int64)
        highest: dict[str, float] = {}
        for record, histogram in zip(
            records, track(histograms, "computing the window", len(records)), strict=True
        ):
            if histogram is not None:
                total += histogram
                highest[record.path] = percentiles(histogram)[1]
    if not highest:
        return None
    low, high = percentiles(total)
    dark = [path for path, value in highest.items() if value - low < NARROW * (high - low)]
    if len(dark) > MANY * len(highest):
        print_status(
            f"Warning: {len(dark)} of {pluralize(len(highest), '16-bit training image')} are nearly black in the window "
            f"{low:g} to {high:g}, e.g. {dark[0]}. If they are stored with fewer bits, rescale them."
        )
    return low, high


def percentiles(histogram: Any) -> tuple[float, float]:
    """Return the 0.5 and 99.5 percentiles of stored values, low < high, from the count of each, `[65536]`."""
    import numpy as np

    cumulative = np.cumsum(histogram) / histogram.sum()
    low, high = (int(np.searchsorted(cumulative, share)) for share in (LOW_FRACTION, HIGH_FRACTION))
    # Constant images would give an empty window.
    return float(low), float(max(high, low + 1))


def _histogram(file: Path) -> Any:
    """Return the count of each stored value, `[65536]` int64, or None if the image is not 16-bit grayscale."""
    import numpy as np
    import tensorflow as tf

    content = file.read_bytes()
    if not is_16_bit_gray(content):
        return None
    pixels = tf.io.decode_png(content, channels=3, dtype=tf.uint16).numpy()[..., 0]
    return np.bincount(pixels.ravel(), minlength=LEVELS)


def training_window(records: Sequence[Record]) -> tuple[float, float] | None:
    """Return the `auto_window` of the 16-bit grayscale images among the records, None without any."""
    chosen = tuple(record for record in records if is_16_bit_file(record.file))
    return _window_of_files(chosen, tuple(record.file.stat().st_mtime_ns for record in chosen))


@lru_cache(maxsize=8)
def _window_of_files(records: tuple[Record, ...], changed_ns: tuple[int, ...]) -> tuple[float, float] | None:  # noqa: ARG001 - a changed file is read again
    return auto_window(records) if records else None

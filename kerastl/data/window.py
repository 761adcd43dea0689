"""The window of 16-bit grayscale images: the stored values that become black and white."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from kerastl.console import track
from kerastl.data.convert import NUM_THREADS, is_16_bit_gray
from kerastl.data.records import Record

LEVELS = 65536
LOW_FRACTION, HIGH_FRACTION = 0.005, 0.995


def auto_window(records: Sequence[Record]) -> tuple[float, float] | None:
    """Compute the 0.5 and 99.5 percentiles of the stored values of all 16-bit grayscale images.

    Args:
        records: Readable images of the training split. 8-bit images are ignored.

    Returns:
        `(low, high)` in stored values with low < high, or None without 16-bit grayscale images.
    """
    import numpy as np

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        histograms = pool.map(_histogram, [record.file for record in records])
        total = np.zeros(LEVELS, np.int64)
        for histogram in track(histograms, "computing the window", len(records)):
            if histogram is not None:
                total += histogram
    if not total.any():
        return None
    cumulative = np.cumsum(total) / total.sum()
    low = int(np.searchsorted(cumulative, LOW_FRACTION))
    high = int(np.searchsorted(cumulative, HIGH_FRACTION))
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

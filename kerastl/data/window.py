"""The window of 16-bit pictures: one for a whole data set, from its training pictures only."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from kerastl.progress import track

from .decode import Window
from .records import Record

LOW_PERCENTILE, HIGH_PERCENTILE = 0.5, 99.5
LEVELS = 65_536


def auto_window(records: Sequence[Record]) -> Window:
    """Return the 0.5 and 99.5 percentile of the stored values of all 16-bit grey pictures.

    Args:
        records: training pictures that can be decoded; those that are not 16-bit grey PNG are passed over.

    Returns:
        (low, high) in stored values, low below high; the full range where there is no such picture.
    """
    counts = np.zeros(LEVELS, np.int64)
    for record in track(records, "finding the window", len(records)):
        content = record.file.read_bytes()
        if not content.startswith(b"\x89PNG\r\n\x1a\n"):
            continue
        depth, colour = struct.unpack_from("BB", content, 24)
        if depth == 16 and colour in (0, 4):
            values = tf.io.decode_png(content, channels=1, dtype=tf.uint16).numpy()
            counts += np.bincount(values.ravel(), minlength=LEVELS)
    if not counts.any():
        return 0.0, float(LEVELS - 1)
    shares = np.cumsum(counts) / counts.sum()
    low = int(np.searchsorted(shares, LOW_PERCENTILE / 100))
    high = int(np.searchsorted(shares, HIGH_PERCENTILE / 100))
    return float(low), float(max(high, low + 1))

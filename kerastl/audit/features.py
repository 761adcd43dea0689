"""What the judges look at beside a network's features: the pixels themselves, small."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

GRID = 8
"""Cells a side. Networks are trained to overlook brightness and side; averages of 64 cells show both."""
PIXEL_WIDTH = GRID * GRID * 3
ANGLES = 8
FIXED_WIDTHS = (PIXEL_WIDTH, GRID * GRID * ANGLES)


def pixel_grid(images: Array) -> Array:
    """Return the mean colour of each cell of a grid.

    Args:
        images: `[n, size, size, channels]` float32 in [0, 255]; 1 or 3 channels, at least 8 px a side.

    Returns:
        `[n, 192]` float32 in [0, 255]: 8 x 8 cells of red, green, blue, row by row.
    """
    count, height, width, channels = images.shape
    rows, columns = (np.arange(GRID) * side // GRID for side in (height, width))
    sums = np.add.reduceat(np.add.reduceat(images, rows, axis=1), columns, axis=2)
    heights, widths = np.diff(rows, append=height), np.diff(columns, append=width)
    means = sums / (heights[:, None] * widths[None, :])[None, :, :, None]
    if channels == 1:
        means = np.repeat(means, 3, axis=-1)
    flat: Array = means.reshape(count, PIXEL_WIDTH).astype(np.float32)
    return flat


def fixed_features(images: Array) -> Array:
    """Return features that no training made: the pixels, and how strong edges of each direction are.

    The second part is the histogram of oriented gradients without its blocks (Dalal & Triggs 2005,
    doi 10.1109/CVPR.2005.177): for each of 8 x 8 cells the gradients' lengths, summed over 8 directions.

    Args:
        images: as in `pixel_grid`.

    Returns:
        `[n, 704]` float32, the widths of the parts are `FIXED_WIDTHS`.
    """
    grey = images.mean(axis=-1)
    down, right = np.gradient(grey, axis=(1, 2))
    length = np.hypot(down, right)
    turn = np.arctan2(down, right) % (2 * np.pi)
    direction = np.minimum((turn / (2 * np.pi) * ANGLES).astype(np.int64), ANGLES - 1)
    rows, columns = (np.arange(GRID) * side // GRID for side in grey.shape[1:])
    cells = [
        np.add.reduceat(
            np.add.reduceat(np.where(direction == one, length, 0.0), rows, axis=1), columns, axis=2
        )
        for one in range(ANGLES)
    ]
    edges = np.stack(cells, axis=-1).reshape(len(images), -1).astype(np.float32)
    return np.concatenate([pixel_grid(images), edges], axis=1)

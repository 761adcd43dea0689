"""Numbers from Beta(alpha, alpha) as a function of uniform ones, by a table of the inverse distribution function.

TensorFlow's gamma sampler, which keras-cv divides to get them, rejects and draws again: how many numbers it takes
depends on the numbers. A table takes one, and gives it the same value in every batch. The distribution is exact at
the table's `CELLS` + 1 points and rises in between, so that nowhere does it differ by more than 1 / `CELLS` = 6.1e-5 from
Beta's, whatever alpha is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from scipy.special import betaincinv

CELLS = 2**14
"""Cells of the table; a power of two, so that a float32 in [0, 1) names its cell exactly."""


def beta_quantiles(alpha: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the quantiles of Beta(alpha, alpha) at 0, 1 / CELLS, ..., 1: `[CELLS + 1]` float32.

    Args:
        alpha: above 0.
    """
    lower = betaincinv(alpha, alpha, np.arange(CELLS // 2 + 1) / CELLS)
    # The distribution is its own mirror image. Below 1e-2, alpha gives numbers too small for SciPy to keep in order.
    lower = np.minimum(np.maximum.accumulate(lower), 0.5)
    lower[-1] = 0.5
    return np.concatenate([lower, 1.0 - lower[-2::-1]]).astype(np.float32)


def build_beta(alpha: float) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a function from uniform numbers to numbers from Beta(alpha, alpha).

    Args:
        alpha: above 0.

    Returns:
        `beta(unit) -> numbers`, float32 of one shape; unit in [0, 1), numbers in [0, 1].
    """
    quantiles = beta_quantiles(alpha)
    starts, widths = tf.constant(quantiles[:-1]), tf.constant(np.diff(quantiles))

    def beta(unit: tf.Tensor) -> tf.Tensor:
        place = unit * CELLS
        cell = tf.floor(place)
        number = tf.cast(cell, tf.int32)
        return tf.gather(starts, number) + (place - cell) * tf.gather(widths, number)

    return beta

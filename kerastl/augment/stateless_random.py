"""Random numbers that are a function of an example's seed.

The layers of keras-cv draw from stateful generators: in a parallel map they return other images on every run,
and many do not pass their seed on (keras-cv 0.9.0, the last release). Here every number is a hash of the
example's seed, the index of the operation in its policy, and the index of the call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from scipy.special import betaincinv

CELLS = 2**14
"""Cells of the quantile table. A power of two, so that the cell of a float32 in [0, 1) is exact."""
SPLITMIX_INCREMENT = 0x9E3779B97F4A7C15
SPLITMIX_FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
SPLITMIX_SHIFTS = (30, 27, 31)
FLOAT32_STEPS = 2**24
"""Evenly spaced float32 numbers in [0, 1)."""


def beta_quantiles(alpha: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the quantiles of Beta(alpha, alpha) at 0, 1 / CELLS, ..., 1: `[CELLS + 1]` float32."""
    lower = betaincinv(alpha, alpha, np.arange(CELLS // 2 + 1) / CELLS)
    # The distribution is symmetric. For alpha below 0.01, SciPy's quantiles are too small to stay in order.
    lower = np.minimum(np.maximum.accumulate(lower), 0.5)
    lower[-1] = 0.5
    return np.concatenate([lower, 1.0 - lower[-2::-1]]).astype(np.float32)


def build_beta(alpha: float) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a function that maps uniform numbers in [0, 1) to samples of Beta(alpha, alpha), alpha above 0."""
    quantiles = beta_quantiles(alpha)
    starts, widths = tf.constant(quantiles[:-1]), tf.constant(np.diff(quantiles))

    def beta(unit: tf.Tensor) -> tf.Tensor:
        position = unit * CELLS
        cell = tf.floor(position)
        index = tf.cast(cell, tf.int32)
        return tf.gather(starts, index) + (position - cell) * tf.gather(widths, index)

    return beta


def hash_combine(state: Any, number: Any) -> Any:
    """Hash an integer into a state with SplitMix64.

    Args:
        state: A uint64 tensor.
        number: Tensor or int, cast to uint64 and broadcast against `state`.

    Returns:
        uint64 tensor.
    """
    value = (state ^ tf.cast(number, tf.uint64)) + tf.constant(SPLITMIX_INCREMENT, tf.uint64)
    for shift, factor in zip(SPLITMIX_SHIFTS[:2], SPLITMIX_FACTORS, strict=True):
        shifted = tf.bitwise.right_shift(value, tf.constant(shift, tf.uint64))
        value = (value ^ shifted) * tf.constant(factor, tf.uint64)
    return value ^ tf.bitwise.right_shift(value, tf.constant(SPLITMIX_SHIFTS[2], tf.uint64))


class StatelessGenerator:
    """The random numbers of one operation for one batch, with the interface that keras-cv expects of a generator.

    Args:
        seeds: `[batch, 2]` int32, one seed per example.
        index: Index of the operation in its policy; operations draw independent numbers.
    """

    def __init__(self, seeds: tf.Tensor, index: int) -> None:
        # Seeds are hashed before the index; otherwise adjacent seeds would swap the numbers of two operations.
        self._state = hash_combine(hash_combine(tf.bitcast(seeds, tf.uint64), 0), index)
        self._num_calls = 0

    def child(self, index: int) -> StatelessGenerator:
        """Return the generator of a nested operation, independent of this one and of its other children."""
        return _from_state(hash_combine(self._child_state(), index))

    def children(self, count: int) -> StatelessGenerator:
        """Return one generator of `count * batch` rows: those of `child(0)`, then of `child(1)`, and so on."""
        indices = tf.range(count, dtype=tf.int64)[:, None]
        return _from_state(tf.reshape(hash_combine(self._child_state()[None, :], indices), [-1]))

    def _child_state(self) -> tf.Tensor:
        # Calls of `uniform` count from 1, so that 0 is free.
        return hash_combine(self._state, 0)

    def uniform(
        self, shape: Sequence[Any], minval: float = 0.0, maxval: float = 1.0, dtype: Any = tf.float32
    ) -> tf.Tensor:
        """Return the next numbers in [minval, maxval), one row per example.

        Args:
            shape: `[batch, ...]`; all dimensions but the first must be known.
            minval: Lower bound.
            maxval: Upper bound.
            dtype: Type of the result.
        """
        inner_shape = [int(size) for size in shape[1:]]
        self._num_calls += 1
        element = tf.range(math.prod(inner_shape), dtype=tf.int64)
        hashed = hash_combine(hash_combine(self._state, self._num_calls)[:, None], element[None, :])
        # 24 bits, as many as a float32 in [0, 1) holds evenly.
        steps = tf.cast(tf.bitwise.right_shift(hashed, tf.constant(40, tf.uint64)), tf.float32)
        unit = tf.reshape(steps * (1.0 / FLOAT32_STEPS), [-1, *inner_shape])
        return tf.cast(minval + (maxval - minval) * unit, dtype)


def _from_state(state: tf.Tensor) -> StatelessGenerator:
    """Return a generator with a given state, `[rows]` uint64."""
    generator = StatelessGenerator.__new__(StatelessGenerator)
    generator._state, generator._num_calls = state, 0
    return generator

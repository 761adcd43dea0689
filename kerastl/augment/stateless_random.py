"""Random numbers that are a function of an example's seed, in place of keras-cv's own generators.

keras-cv's layers draw from stateful generators: in a parallel map they give other images on every run, and
many layers do not pass their seed on (keras-team/keras-cv, release 0.9.0, which is the last). Here every number
is a hash of the example's seed, the place of the operation in the policy, and the number of the draw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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


GOLDEN = 0x9E3779B97F4A7C15
MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
SHIFTS = (30, 27, 31)


def mixed(state: Any, number: Any) -> Any:
    """Hash a whole number into a state.

    Args:
        state: uint64 tensor.
        number: tensor or int that is cast to uint64; its shape and the state's must broadcast.

    Returns:
        uint64 tensor.
    """
    import tensorflow as tf

    value = (state ^ tf.cast(number, tf.uint64)) + tf.constant(GOLDEN, tf.uint64)
    for shift, factor in zip(SHIFTS[:2], MIX, strict=True):
        shifted = tf.bitwise.right_shift(value, tf.constant(shift, tf.uint64))
        value = (value ^ shifted) * tf.constant(factor, tf.uint64)
    return value ^ tf.bitwise.right_shift(value, tf.constant(SHIFTS[2], tf.uint64))


FLOAT32_STEPS = 2**24


class StatelessGenerator:
    """The random numbers of one operation for one batch; it stands where keras-cv looks for a generator.

    Args:
        seeds: `[batch, 2]` int32, one seed an example.
        place: of the operation in its policy; operations draw independent numbers.
    """

    def __init__(self, seeds: tf.Tensor, place: int) -> None:
        # Seeds are hashed before the place joins them: or else neighbouring seeds would swap the numbers of two places.
        self._state = mixed(mixed(tf.bitcast(seeds, tf.uint64), 0), place)
        self._draw = 0

    def child(self, number: int) -> StatelessGenerator:
        """Return the draws of an operation inside this one, independent of these and of other numbers'.

        Args:
            number: of the operation inside, from 0.
        """
        return _of(mixed(self._inside(), number))

    def children(self, count: int) -> StatelessGenerator:
        """Return the draws of `child(0)` to `child(count - 1)`, one child's batch after the other's.

        Args:
            count: at least 1; there are `count * batch` rows.
        """
        numbers = tf.range(count, dtype=tf.int64)[:, None]
        return _of(tf.reshape(mixed(self._inside()[None, :], numbers), [-1]))

    def _inside(self) -> tf.Tensor:
        # Draws count from 1: 0 is no draw of this operation's own.
        return mixed(self._state, 0)

    def uniform(
        self, shape: Sequence[Any], minval: float = 0.0, maxval: float = 1.0, dtype: Any = tf.float32
    ) -> tf.Tensor:
        """Return the next numbers in [minval, maxval), rows by example.

        Args:
            shape: `[batch, ...]`; all but the first must be known.
            minval, maxval: bounds.
            dtype: of the result.
        """
        rest = [int(size) for size in shape[1:]]
        self._draw += 1
        element = tf.range(math.prod(rest), dtype=tf.int64)
        hashed = mixed(mixed(self._state, self._draw)[:, None], element[None, :])
        # 24 bits: as many as a float32 in [0, 1) holds evenly.
        steps = tf.cast(tf.bitwise.right_shift(hashed, tf.constant(40, tf.uint64)), tf.float32)
        unit = tf.reshape(steps * (1.0 / FLOAT32_STEPS), [-1, *rest])
        return tf.cast(minval + (maxval - minval) * unit, dtype)


def _of(state: tf.Tensor) -> StatelessGenerator:
    """Return draws that begin from a state of their own, `[rows]` uint64."""
    generator = StatelessGenerator.__new__(StatelessGenerator)
    generator._state, generator._draw = state, 0
    return generator


class SeededFactor:
    """Stands for a layer's uniform factor sampler.

    Args:
        lower, upper: its bounds.
        draws: where it draws from.
    """

    def __init__(self, lower: float, upper: float, generator: StatelessGenerator) -> None:
        self.lower, self.upper, self._draws = lower, upper, generator

    def __call__(self, shape: Sequence[Any] = (), dtype: Any = tf.float32) -> tf.Tensor:
        """Return numbers in [lower, upper)."""
        return self._draws.uniform(shape, self.lower, self.upper, dtype)

"""Averages of the weights along the way: evaluated and kept in their place, while training goes on from the last ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl.recipe.phase import Phase

Array = np.ndarray[Any, Any]


class Averages:
    """The average of each trained variable, of one phase.

    Args:
        phase: `ema` follows every step: `average += (1 - m) * (weight - average)`, `m` the smaller of `ema` and
            `(1 + t) / (10 + t)` at step t, so that the start is soon forgotten. `average_last: n` is the plain mean of
            the weights at the ends of the last n epochs. Neither: nothing is averaged.
        variables: what is trained; created under the strategy.

    Reference:
        Polyak & Juditsky 1992, doi 10.1137/0330046; Izmailov et al. 2018, arXiv:1803.05407 (the last epochs).
    """

    def __init__(self, phase: Phase, variables: Sequence[keras.Variable]) -> None:
        self._momentum, self._last, self._epochs = phase.ema, phase.average_last, phase.epochs
        averaged = variables if self._momentum is not None or self._last else ()
        self._pairs = [
            (one, keras.Variable(np.array(keras.ops.convert_to_numpy(one)), trainable=False, dtype=one.dtype))
            for one in averaged
        ]  # fmt: skip
        self._count = keras.Variable(0.0, trainable=False, dtype="float32")
        self._follow = tf.function(self._move, autograph=False)

    @property
    def variables(self) -> list[keras.Variable]:
        """What a checkpoint must hold."""
        return [self._count, *(average for _, average in self._pairs)] if self._pairs else []

    def on_step(self) -> None:
        """Follow the weights after a step."""
        if self._momentum is None:
            return
        count = float(self._count.numpy())
        self._follow(tf.constant(1.0 - min(self._momentum, (1.0 + count) / (10.0 + count))))
        self._count.assign(count + 1.0)

    def on_epoch(self, epoch: int) -> None:
        """Take in the weights at the end of an epoch of the phase, counted from 1."""
        if self._last and epoch > self._epochs - self._last:
            count = float(self._count.numpy()) + 1.0
            self._count.assign(count)
            self._follow(tf.constant(1.0 / count, tf.float32))

    def _move(self, share: tf.Tensor) -> None:
        for weight, average in self._pairs:
            average.assign(average + tf.cast(share, average.dtype) * (weight - average))

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Put the averages in the place of the weights for a while, once there are any."""
        if not self._pairs or not float(self._count.numpy()):
            yield
            return
        kept = [np.array(keras.ops.convert_to_numpy(weight)) for weight, _ in self._pairs]
        try:
            for weight, average in self._pairs:
                weight.assign(average)
            yield
        finally:
            for (weight, _), value in zip(self._pairs, kept, strict=True):
                weight.assign(value)

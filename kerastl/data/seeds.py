"""Randomness as a function of (seed, epoch, example index): nothing is drawn from a generator that lives."""

from __future__ import annotations

from typing import Any

import numpy as np

from kerastl.augment.stateless_random import mixed


def seeds_for(seed: int, epoch: Any, indices: Any) -> Any:
    """Return one seed for each example of an epoch, in a TensorFlow graph or eagerly.

    Each number is hashed in turn with the finaliser of SplitMix64, whose every input bit moves
    about half of the output bits: neighbours get seeds that have nothing to do with each other.

    Args:
        seed: of the run.
        epoch: scalar int64, from 0.
        indices: `[batch]` int64, numbers of the examples.

    Returns:
        `[batch, 2]` int32, a stateless seed for each example.

    Reference:
        Steele, Lea & Flood 2014, doi 10.1145/2660193.2660195, figure 16.
    """
    import tensorflow as tf

    state = mixed(tf.zeros([], tf.uint64), tf.constant(seed, tf.int64))
    state = mixed(state, tf.cast(epoch, tf.int64))
    return tf.bitcast(mixed(state, tf.cast(indices, tf.int64)), tf.int32)


def order_of(
    seed: int, epoch: int, num_examples: int, stream: int = 0
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the order of an epoch: `[num_examples]` int64, each index once, from (seed, stream, epoch) alone."""
    key = np.array([seed, epoch + (stream << 32)], np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).permutation(num_examples).astype(np.int64)

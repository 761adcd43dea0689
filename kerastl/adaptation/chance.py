"""Chance inside a step: a function of the seed, the step and the picture, so that it repeats and resumes."""

from __future__ import annotations

import tensorflow as tf

from kerastl.data.dataset import seeds_for

_APART = 2**40
"""Above every number of an epoch, so that no seed is one that the pictures' own augmentation has."""


def step_seeds(seed: int, progress: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
    """Return one seed for each picture of a step.

    Args:
        seed: of the method.
        progress: scalar float32, 0 to 1: where in its phase the step stands.
        indices: `[batch]` int64, numbers of the pictures.

    Returns:
        `[batch, 2]` int32, for stateless draws.
    """
    place = tf.bitcast(tf.cast(progress, tf.float32), tf.int32)
    return seeds_for(seed, tf.cast(place, tf.int64) + _APART, indices)

"""The hash behind augmentation's random numbers: SplitMix64's finaliser, in TensorFlow operations.

Every input bit moves about half of the output bits, so that neighbouring numbers hash to values that have nothing to
do with each other (Steele, Lea & Flood 2014, doi 10.1145/2660193.2660195, figure 16).
"""

from __future__ import annotations

from typing import Any

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

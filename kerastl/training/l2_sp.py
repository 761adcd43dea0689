"""A pull back to where training began: borrowed weights may learn, and forget as little as they must."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

Pull = Callable[[], tf.Tensor]


def build_pull(
    strength: float, variables: Sequence[keras.Variable], start: Mapping[str, Any]
) -> Pull | None:
    """Return a function that gives `strength / 2 * sum((w - w_start) ** 2)`, a float32 scalar; None where it is 0.

    Args:
        strength: of the pull, per step.
        variables: what is trained; those that are not in `start`, as the new head, are not pulled.
        start: the weights that training began with, by path.

    Reference:
        Li, Grandvalet & Davoine 2018, arXiv:1802.01483, equation 3 (L2-SP).
    """
    pairs = [(one, tf.constant(start[one.path])) for one in variables if one.path in start]
    if not strength or not pairs:
        return None

    def pull() -> tf.Tensor:
        squares = [
            tf.reduce_sum(tf.square(tf.cast(one.value, tf.float32) - to)) for one, to in pairs
        ]
        return 0.5 * strength * tf.add_n(squares)

    return pull

"""Grey pictures in three equal channels, which must stay grey whatever they are given the style of."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

NEARLY_GREY = 0.5
"""Grey levels, of 255, that the channels of a grey picture may differ by: half a level of an 8-bit picture."""


def greyed(images: Any, styles: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return pictures and styles in float32, both of equal channels where the picture is grey.

    A colour style has no colour to give to a grey picture: the mean of its channels stands for it.

    Args:
        images, styles: `[batch, h, w, 3]` in [0, 255].

    Returns:
        Images, styles, and `[batch, 1, 1, 1]` bool: whether the picture is grey.
    """
    images, styles = (tf.cast(one, tf.float32) for one in (images, styles))
    level = tf.reduce_mean(images, -1, keepdims=True)
    furthest = tf.reduce_max(tf.abs(images - level), [1, 2, 3], keepdims=True)
    is_grey = furthest < NEARLY_GREY
    style_level = tf.reduce_mean(styles, -1, keepdims=True)
    return (
        tf.where(is_grey, tf.broadcast_to(level, tf.shape(images)), images),
        tf.where(is_grey, tf.broadcast_to(style_level, tf.shape(styles)), styles),
        is_grey,
    )


def in_range(images: tf.Tensor) -> tf.Tensor:
    """Return pictures clipped to [0, 255]."""
    return tf.clip_by_value(images, 0.0, 255.0)

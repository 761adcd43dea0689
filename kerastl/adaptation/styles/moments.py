"""The mean and spread of one picture's colours in another."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from kerastl.adaptation.styles.grey import greyed, in_range

_CONES = np.array(
    [[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]], np.float64
)
"""RGB to the responses of the three kinds of cones, equation 4; each row is made to sum to 1, so that grey excites them alike."""
TO_CONES = _CONES / _CONES.sum(axis=1, keepdims=True)
TO_OPPONENTS = np.diag(1 / np.sqrt([3.0, 6.0, 2.0])) @ np.array(
    [[1.0, 1.0, 1.0], [1.0, 1.0, -2.0], [1.0, -1.0, 0.0]]
)
"""Logarithms of these to l (light), alpha (yellow against blue) and beta (red against green), equation 6."""
LEAST_SPREAD = 1e-4
"""A spread below this is rounding: nothing is stretched by it."""


def reinhard_style(images: Any, styles: Any) -> tf.Tensor:
    """Give pictures the mean and standard deviation of others, channel by channel, over all pixels of a picture.

    `(x - mean(image)) * std(style) / std(image) + mean(style)`, clipped to [0, 255]. Colour pictures in l-alpha-beta:
    `log10(1 + v)` of the cones' responses v (0 to 255), rotated; the 1 gives black a logarithm. Grey pictures (three equal
    channels) in their grey levels, without a logarithm: there a scanner that is brighter or of less contrast is a scanner
    whose levels are shifted and stretched, and dark air would weigh most. They stay grey.

    Args:
        images, styles: `[batch, h, w, 3]` in [0, 255].

    Returns:
        `[batch, h, w, 3]` float32 in [0, 255]. A channel that is flat in the picture gets the style's mean alone.

    Reference:
        Reinhard et al. 2001, doi 10.1109/38.946629, equations 4 to 8 and 10 to 11.
    """
    images, styles, is_grey = greyed(images, styles)
    level = _matched(images, styles, least=LEAST_SPREAD)
    colour = _from_opponents(
        _matched(_to_opponents(images), _to_opponents(styles), least=LEAST_SPREAD)
    )
    return in_range(tf.where(is_grey, level, colour))


def _matched(values: tf.Tensor, styles: tf.Tensor, *, least: float) -> tf.Tensor:
    (mean, spread), (style_mean, style_spread) = (_moments(one) for one in (values, styles))
    flat = spread < least
    scale = tf.where(flat, 1.0, style_spread / tf.where(flat, 1.0, spread))
    return (values - mean) * scale + style_mean


def _moments(values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the mean and standard deviation of each channel of each picture: `[batch, 1, 1, 3]` float32."""
    mean = tf.reduce_mean(values, [1, 2], keepdims=True)
    return mean, tf.sqrt(tf.reduce_mean((values - mean) ** 2, [1, 2], keepdims=True))


def _to_opponents(images: tf.Tensor) -> tf.Tensor:
    cones = tf.maximum(_rotated(images, TO_CONES), 0.0)
    return _rotated(tf.math.log1p(cones) / np.float32(np.log(10)), TO_OPPONENTS)


def _from_opponents(values: tf.Tensor) -> tf.Tensor:
    logarithms = _rotated(values, np.linalg.inv(TO_OPPONENTS)) * np.float32(np.log(10))
    # Far beyond what a picture holds; the exponential of more would be no number.
    cones = tf.math.expm1(tf.minimum(logarithms, 20.0))
    return _rotated(cones, np.linalg.inv(TO_CONES))


def _rotated(values: tf.Tensor, matrix: np.ndarray[Any, Any]) -> tf.Tensor:
    return tf.tensordot(values, tf.constant(matrix.T, tf.float32), 1)

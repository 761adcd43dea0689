"""What stands where a part of a picture was masked: one level, or normal noise that is a function of the seed.

keras-cv 0.9.0 draws its noise while it changes the picture, from TensorFlow's global generator, and stretches it to
the darkest and the brightest pixel of the *batch* (RandomCutout), or fails (GridMask).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from scipy.stats import norm

NOISE_SD = 255.0 / 6
"""Pixel levels: about the middle grey, three standard deviations reach both ends of the range."""
QUANTILES = 4096
"""A normal number is one of so many quantiles, read from a table: a logarithm or a sine would give other last
digits in other batches. The standard deviation of the table is 0.9999."""
TABLE = norm.ppf((np.arange(QUANTILES) + 0.5) / QUANTILES).astype(np.float32)


def drawn_fill(generator: Any, images: tf.Tensor, mode: str, value: float) -> dict[str, tf.Tensor]:
    """Return what a layer's transformations hold of the fill.

    Args:
        generator: has `uniform(shape)`.
        images: `[batch, height, width, channels]`; only the shape is read.
        mode: `constant` or `gaussian_noise`.
        value: level, or the mean of the noise, 0 to 255.

    Returns:
        Nothing for a constant; for noise `fill`, the images' shape, float32 in [0, 255].
    """
    if mode == "constant":
        return {}
    uniform = generator.uniform([tf.shape(images)[0], *images.shape[1:]])
    normal = tf.gather(TABLE, tf.cast(uniform * QUANTILES, tf.int32))
    return {"fill": tf.clip_by_value(value + NOISE_SD * normal, 0.0, 255.0)}


def filled(
    images: tf.Tensor, masked: tf.Tensor, transformations: dict[str, tf.Tensor], value: float
) -> tf.Tensor:
    """Return the pictures with the fill where they are masked.

    Args:
        images: `[batch, height, width, channels]` float32 in [0, 255].
        masked: `[batch, height, width, 1]` bool.
        transformations: hold `fill` where it is noise.
        value: the level where it is constant.
    """
    return tf.where(masked, transformations.get("fill", value), images)

"""Hue and saturation as one matrix a picture: quicker than by way of HSV, and another augmentation.

The hue turns about the grey axis, so that greys and the mean of the three channels stay; saturation moves every pixel
towards or away from its luma. HSV keeps the largest channel instead: the two differ most for strong colours.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf
from keras_cv import layers

from kerastl.augment.affine import steady
from kerastl.augment.corrected.grayscale import BLUE, RED
from kerastl.augment.hsv import apply_matrices

LUMA = (RED, 1.0 - RED - BLUE, BLUE)
GREY = np.full((3, 3), 1 / 3, np.float32)
ACROSS = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], np.float32) / math.sqrt(3)


def hue(turns: tf.Tensor) -> tf.Tensor:
    """Return matrices that turn colours about the grey axis: `[batch, 3, 3]` float32.

    Args:
        turns: `[batch]` float32, in turns.

    Reference:
        Rodrigues' rotation formula for the axis (1, 1, 1) / sqrt(3).
    """
    angles = turns * (2 * math.pi)
    cosine, sine = (steady(function, angles)[:, None, None] for function in (tf.cos, tf.sin))
    return GREY + cosine * (np.eye(3, dtype=np.float32) - GREY) + sine * ACROSS


def saturation(factors: tf.Tensor) -> tf.Tensor:
    """Return matrices that multiply each colour's distance from its luma: `[batch, 3, 3]` float32.

    Args:
        factors: `[batch]` float32, at least 0.
    """
    factors = factors[:, None, None]
    luma = np.tile(np.array(LUMA, np.float32), (3, 1))
    return factors * np.eye(3, dtype=np.float32) + (1.0 - factors) * luma


class LinearHue(layers.RandomHue):
    """`keras_cv.layers.RandomHue` with a matrix in place of HSV."""

    def get_random_transformation_batch(self, batch_size: Any, **kwargs: Any) -> tf.Tensor:
        """Return the matrices: `[batch, 3, 3]` float32. They are made outside of what XLA compiles."""
        return hue(super().get_random_transformation_batch(batch_size, **kwargs))

    def augment_images(self, images: tf.Tensor, transformations: tf.Tensor, **_: Any) -> tf.Tensor:
        """Return the changed pictures, clipped to [0, 255]."""
        return apply_matrices(images, transformations)


class LinearSaturation(layers.RandomSaturation):
    """`keras_cv.layers.RandomSaturation` with a matrix in place of HSV."""

    def get_random_transformation_batch(self, batch_size: Any, **kwargs: Any) -> tf.Tensor:
        """Return the matrices: `[batch, 3, 3]` float32."""
        shares = super().get_random_transformation_batch(batch_size, **kwargs)
        return saturation(shares / (1.0 - shares))

    def augment_images(self, images: tf.Tensor, transformations: tf.Tensor, **_: Any) -> tf.Tensor:
        """Return the changed pictures, clipped to [0, 255]."""
        return apply_matrices(images, transformations)

"""Colour taken away, wholly or in part, so that what is grey already stays as it is.

keras-cv 0.9.0 uses `tf.image.rgb_to_grayscale`, whose weights 0.2989, 0.587 and 0.114 sum to 0.9999: grey becomes
darker, white 254.97. And its Grayscale returns one channel unless told otherwise, which no network for colour takes.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from keras_cv import layers

RED, BLUE = 0.299, 0.114
"""Shares of red and blue in the brightness of a pixel; green has the rest, 0.587 (ITU-R BT.601, section 2.5.1)."""


def luma(images: tf.Tensor) -> tf.Tensor:
    """Return how bright each pixel is.

    Args:
        images: `[batch, height, width, 3]` float32.

    Returns:
        `[batch, height, width, 1]` float32, in the images' unit.
    """
    red, green, blue = tf.split(images, 3, axis=-1)
    # Differences from green: zero for grey, whose level is then the same to the last digit.
    return green + (RED * (red - green) + BLUE * (blue - green))


class SteadyGrayscale(layers.Grayscale):
    """`keras_cv.layers.Grayscale` with three equal channels out."""

    def augment_images(self, images: tf.Tensor, transformations: Any = None, **_: Any) -> tf.Tensor:  # noqa: ARG002
        """Return the grey pictures, the shape kept."""
        return tf.repeat(luma(images), 3, axis=-1)


class SteadyColorDegeneration(layers.RandomColorDegeneration):
    """`keras_cv.layers.RandomColorDegeneration`, mixing with a grey picture of the same brightness."""

    def augment_images(self, images: tf.Tensor, transformations: tf.Tensor, **_: Any) -> tf.Tensor:
        """Return the paler pictures, the shape kept.

        Args:
            images: `[batch, height, width, 3]` float32 in [0, 255].
            transformations: `[batch, 1, 1, 1]` float32, the share of grey, 0 to 1.
        """
        return images + transformations * (luma(images) - images)

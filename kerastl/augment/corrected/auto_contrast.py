"""Contrast stretched to the whole range, safe where a channel is constant but for rounding.

keras-cv 0.9.0 divides by the difference of the brightest and the darkest value whenever it is not exactly zero: a
picture of one level, after another operation has added float32's rounding error, becomes noise of black and white.
It also computes `value * scale - darkest * scale`, which loses digits where the difference is small.
"""

from __future__ import annotations

import tensorflow as tf

from kerastl.augment.corrected.blended import Blended

SMALLEST_SPREAD = 1e-3
"""Pixel levels. A step of a 16-bit picture is 255 / 65535 = 0.0039 levels; float32 rounds to 0.00002 near 255."""


class SteadyAutoContrast(Blended):
    """Map the darkest value of each channel to 0, the brightest to 255, those between them linearly.

    A channel whose values differ by less than 0.001 levels is constant and stays as it is.
    """

    def changed(self, images: tf.Tensor) -> tf.Tensor:
        """Return the stretched pictures, the shape kept."""
        darkest = tf.reduce_min(images, axis=(1, 2), keepdims=True)
        spread = tf.reduce_max(images, axis=(1, 2), keepdims=True) - darkest
        constant = spread < SMALLEST_SPREAD
        stretched = (images - darkest) / tf.where(constant, 1.0, spread) * 255.0
        return tf.where(constant, images, stretched)

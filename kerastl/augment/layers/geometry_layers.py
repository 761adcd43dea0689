"""Corrected geometric layers.

The crops of keras-cv 0.9.0 return smaller images and skip rows and columns, because they sample by nearest
neighbor with a step slightly above one pixel.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf
from keras_cv import layers
from keras_cv.src.utils import preprocessing

from kerastl.augment.geometry import batch_invariant
from kerastl.augment.layers.base import AffineLayer, Samples

MIN_SIDE_PX = 2
"""A window of one pixel would have one color."""


class RandomCrop(AffineLayer):
    """Crop a window of fixed size at a uniform position in whole pixels, and resize it to the image size.

    The fraction `max_fraction` of the height and of the width is cut off.
    """

    def get_random_transformation_batch(self, batch_size: Any, images: tf.Tensor, **_: Any) -> Samples:
        """Return the windows: `tops`, `lefts`, `heights` and `widths`, each `[batch]` float32 integers, in pixels."""
        window: Samples = {}
        for first, length, size in (
            ("tops", "heights", images.shape[1]),
            ("lefts", "widths", images.shape[2]),
        ):
            side = min(size, max(MIN_SIDE_PX, round(size * (1 - self.options.max_fraction))))
            # Below size - side + 1 even after rounding, because the numbers are at most 1 - 2 ** -24.
            window[first] = tf.floor(self._random_generator.uniform([batch_size]) * (size - side + 1.0))
            window[length] = tf.fill([batch_size], float(side))
        return window


class RandomCropAndResize(AffineLayer):
    """Crop a window of random area and aspect ratio inside the image, and resize it to the image size.

    The area is uniform in [min_area_fraction, 1), the position uniform. The logarithm of the aspect ratio relative to
    the image is uniform over the part of its range in which a window of that area fits into the image.
    """

    def get_random_transformation_batch(self, batch_size: Any, **_: Any) -> Samples:
        """Return the windows.

        Returns:
            `areas` (fraction of the image), `aspects` (width over height, relative to the image), `tops` and `lefts` (0
            at the first row or column of the image, 1 at the last possible position), each `[batch]` float32.
        """
        uniform = self._random_generator.uniform
        areas = uniform([batch_size], self.options.min_area_fraction, 1.0)
        # A window of area a fits if its ratio is between a and 1 / a.
        log_limit = -batch_invariant(tf.math.log, areas)
        log_ratio = tf.minimum(math.log(self.options.max_aspect_ratio), log_limit)
        aspects = batch_invariant(tf.exp, log_ratio * uniform([batch_size], -1.0, 1.0))
        return {
            "areas": areas,
            "aspects": aspects,
            "tops": uniform([batch_size]),
            "lefts": uniform([batch_size]),
        }


class RandomRotation(layers.RandomRotation):
    """`keras_cv.layers.RandomRotation` with sines and cosines that do not depend on the batch.

    Those of the original layer change border pixels by a few hundredths of a level with the batch.
    """

    def _rotate_images(self, images: tf.Tensor, transformations: dict[str, Any]) -> tf.Tensor:
        height, width = (tf.cast(size, tf.float32) for size in tf.unstack(tf.shape(images)[1:3]))
        matrices = batch_invariant(
            lambda angles: preprocessing.get_rotation_matrix(angles, height, width), transformations["angles"]
        )
        rotated = preprocessing.transform(images, matrices, fill_mode=self.fill_mode)
        return tf.ensure_shape(rotated, images.shape)


class RandomShear(AffineLayer):
    """Shear along x, then along y, about the center, in one resampling."""

    def get_random_transformation_batch(self, batch_size: Any, **_: Any) -> Samples:
        """Return `slopes_x` and `slopes_y`, `[batch]` float32, uniform and independent."""
        largest = self.options.max_fraction
        return {
            name: self._random_generator.uniform([batch_size], -largest, largest)
            for name in ("slopes_x", "slopes_y")
        }

"""Masks that are computed from coordinates for a whole batch.

keras-cv 0.9.0 draws each grid mask as an image and rotates it, which XLA does not compile. Interpolation
enlarges the squares by up to two pixels, the last row and column of squares can be missing, and noise fill
fails. Here the position of a pixel in its grid period is an integer with 2 ** 32 steps per period, where
overflow is the step into the next period: the mask is the same to the pixel, compiled or not, alone or in a
batch.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from kerastl.augment.geometry import batch_invariant
from kerastl.augment.layers.base import OperationLayer, Samples, fill_masked, sample_fill

STEPS_PER_PERIOD = 2.0**32
PERIOD_FRACTIONS = (0.3, 0.5)
"""Minimum and maximum grid period as a fraction of the shorter side, as in keras-cv on square images."""
MIN_PERIOD_PX = 2.0


class GridMask(OperationLayer):
    """Mask a rotated and shifted grid of squares.

    The side of a square is `ratio` times the grid period, with `ratio` uniform in [0, max_fraction). The
    shift is uniform over a period, so that each pixel is masked with probability `ratio ** 2` at any angle.
    """

    def get_random_transformation_batch(self, batch_size: Any, images: tf.Tensor, **_: Any) -> Samples:
        """Return the grids, in units of 2 ** -32 periods.

        Returns:
            `steps`, `[batch, 2]` int32: half a pixel to the right, along both axes of the grid; `shifts`,
            `[batch, 2]` int32: the position of the image center in its period, -1/2 to 1/2; `ends`, `[batch]`
            int32: where the square that starts at -1/2 ends; `fill` for noise.
        """
        uniform = self._random_generator.uniform
        shorter_px = tf.cast(tf.reduce_min(tf.shape(images)[1:3]), tf.float32)
        period_px = tf.maximum(uniform([batch_size, 1], *PERIOD_FRACTIONS) * shorter_px, MIN_PERIOD_PX)
        largest = math.radians(self.options.max_deg)
        radians = uniform([batch_size], -largest, largest)
        direction = tf.stack([batch_invariant(tf.cos, radians), batch_invariant(tf.sin, radians)], axis=1)
        grids = {
            "steps": direction / (2.0 * period_px),
            "shifts": uniform([batch_size, 2], -0.5, 0.5),
            "ends": uniform([batch_size], 0.0, self.options.max_fraction) - 0.5,
        }
        integers = {name: tf.cast(value * STEPS_PER_PERIOD, tf.int32) for name, value in grids.items()}
        fill = sample_fill(self._random_generator, images, self.options)
        return {**integers, **fill}

    def augment_images(self, images: tf.Tensor, transformations: Samples, **_: Any) -> tf.Tensor:
        """Return the masked images."""
        size = tf.shape(images)
        down = _half_pixels_from_center(size[1])[None, :, None]
        right = _half_pixels_from_center(size[2])[None, None, :]
        # Unsigned, because signed overflow is undefined.
        unsigned = {name: tf.bitcast(transformations[name], tf.uint32) for name in ("steps", "shifts")}
        cosine, sine = (part[:, None, None] for part in tf.unstack(unsigned["steps"], axis=1))
        shift_x, shift_y = (part[:, None, None] for part in tf.unstack(unsigned["shifts"], axis=1))
        along_x = tf.bitcast(right * cosine + down * sine + shift_x, tf.int32)
        along_y = tf.bitcast(down * cosine - right * sine + shift_y, tf.int32)
        ends = transformations["ends"][:, None, None]
        masked = (along_x < ends) & (along_y < ends)
        return fill_masked(images, masked[..., None], transformations, self.options)


def _half_pixels_from_center(length_px: tf.Tensor) -> tf.Tensor:
    """Return the distance of each pixel from the center in half pixels, `[length]` uint32, wrapping."""
    return tf.bitcast(2 * tf.range(length_px) + 1 - length_px, tf.uint32)


class RandomCutout(OperationLayer):
    """Mask one rectangle inside the image.

    Height and width are independent, uniform in [0, max_fraction) of the side, and rounded to pixels. The
    position is uniform over all at which the rectangle lies inside, so that border pixels are masked less
    often than central ones.
    """

    def get_random_transformation_batch(self, batch_size: Any, images: tf.Tensor, **_: Any) -> Samples:
        """Return the rectangles.

        Returns:
            `starts` and `ends` (exclusive), `[batch, 2]` int32, row and column in pixels; `fill` for noise.
        """
        sides = tf.shape(images)[1:3]
        lengths = self._random_generator.uniform([batch_size, 2], 0.0, self.options.max_fraction)
        lengths = tf.cast(tf.round(lengths * tf.cast(sides, tf.float32)), tf.int32)
        positions = tf.cast(sides - lengths + 1, tf.float32)
        # Below `positions` even after rounding, because the numbers are at most 1 - 2 ** -24.
        starts = tf.cast(self._random_generator.uniform([batch_size, 2]) * positions, tf.int32)
        fill = sample_fill(self._random_generator, images, self.options)
        return {"starts": starts, "ends": starts + lengths, **fill}

    def augment_images(self, images: tf.Tensor, transformations: Samples, **_: Any) -> tf.Tensor:
        """Return the masked images."""
        size = tf.shape(images)
        inside = [
            (tf.range(size[1 + axis]) >= transformations["starts"][:, axis, None])
            & (tf.range(size[1 + axis]) < transformations["ends"][:, axis, None])
            for axis in (0, 1)
        ]
        masked = inside[0][:, :, None, None] & inside[1][:, None, :, None]
        return fill_masked(images, masked, transformations, self.options)

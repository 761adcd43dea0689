"""A turned grid of masked squares (Chen et al. 2020, arXiv:2001.04086), computed from coordinates for a whole batch.

keras-cv 0.9.0 draws the grid as an image and turns it, one image after another, with ImageProjectiveTransformV3, which
XLA does not compile; the turned grid is blurred by interpolation and then everything above 0 is masked, so that
squares grow by up to two pixels; the last row and column of squares can be missing; and noise as a fill fails.

Here a pixel asks where it lies in its grid unit. That is computed in whole numbers, 2 ** 32 to a unit, whose overflow
is the step into the next unit: the same mask to the last pixel, compiled or not, alone or in a batch.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf
from keras_cv.layers import VectorizedBaseImageAugmentationLayer

from kerastl.augment.geometry import batch_invariant
from kerastl.augment.layers.base import drawn_fill, filled

UNIT = 2.0**32
UNIT_FRACTIONS = (0.3, 0.5)
"""Smallest and largest distance from square to square, as a fraction of the image's shorter side: keras-cv's,
on square images."""
SMALLEST_UNIT_PX = 2.0


class GridMask(VectorizedBaseImageAugmentationLayer):
    """Mask a grid of squares, turned and shifted at random.

    A square's side is `ratio` times the distance from square to square; `ratio` is uniform in [0, max_fraction). The
    grid is shifted by any part of a unit, so that every pixel is masked with probability `ratio ** 2`, whatever the
    angle: `max_fraction ** 2 / 3` of the area on average, below `max_fraction ** 2` but for where the border cuts the grid.

    Args:
        max_fraction: largest ratio, 0 to 1.
        max_deg: largest turn either way, in degrees.
        fill_mode: `constant` or `gaussian_noise`.
        fill_value: level, or mean of the noise, 0 to 255.
        kwargs: `dtype` and `seed`, for keras-cv.
    """

    def __init__(
        self, max_fraction: float, *, max_deg: float, fill_mode: str, fill_value: float, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.max_fraction = max_fraction
        self.max_deg = max_deg
        self.fill_mode = fill_mode
        self.fill_value = fill_value

    def get_random_transformation_batch(
        self, batch_size: Any, images: tf.Tensor, **_: Any
    ) -> dict[str, tf.Tensor]:
        """Return the grids, in grid units of 2 ** 32.

        Returns:
            `steps`, `[batch, 2]` int32: how far half a pixel to the right leads along both axes of the grid;
            `shifts`, `[batch, 2]` int32: where the middle of the image lies in its unit, from -1/2 to 1/2;
            `ends`, `[batch]` int32: where the square that begins at -1/2 ends; `fill` where it is noise.
        """
        draw = self._random_generator.uniform
        shorter_px = tf.cast(tf.reduce_min(tf.shape(images)[1:3]), tf.float32)
        unit_px = tf.maximum(draw([batch_size, 1], *UNIT_FRACTIONS) * shorter_px, SMALLEST_UNIT_PX)
        radians = draw([batch_size], -math.radians(self.max_deg), math.radians(self.max_deg))
        direction = tf.stack([batch_invariant(tf.cos, radians), batch_invariant(tf.sin, radians)], axis=1)
        grids = {
            "steps": direction / (2.0 * unit_px),
            "shifts": draw([batch_size, 2], -0.5, 0.5),
            "ends": draw([batch_size], 0.0, self.max_fraction) - 0.5,
        }
        whole = {name: tf.cast(value * UNIT, tf.int32) for name, value in grids.items()}
        fill = drawn_fill(self._random_generator, images, self.fill_mode, self.fill_value)
        return {**whole, **fill}

    def augment_images(self, images: tf.Tensor, transformations: dict[str, tf.Tensor], **_: Any) -> tf.Tensor:
        """Return the images with their grids filled, the shape kept."""
        size = tf.shape(images)
        down = _half_pixels_from_the_middle(size[1])[None, :, None]
        right = _half_pixels_from_the_middle(size[2])[None, None, :]
        # Without a sign: only there is overflow defined.
        numbers = {name: tf.bitcast(transformations[name], tf.uint32) for name in ("steps", "shifts")}
        cosine, sine = (part[:, None, None] for part in tf.unstack(numbers["steps"], axis=1))
        shift_x, shift_y = (part[:, None, None] for part in tf.unstack(numbers["shifts"], axis=1))
        along_x = tf.bitcast(right * cosine + down * sine + shift_x, tf.int32)
        along_y = tf.bitcast(down * cosine - right * sine + shift_y, tf.int32)
        ends = transformations["ends"][:, None, None]
        masked = (along_x < ends) & (along_y < ends)
        return filled(images, masked[..., None], transformations, self.fill_value)


def _half_pixels_from_the_middle(length_px: tf.Tensor) -> tf.Tensor:
    """Return the distance of the middle of each of so many pixels from the middle of all, `[length]` uint32, wrapping."""
    return tf.bitcast(2 * tf.range(length_px) + 1 - length_px, tf.uint32)


class RandomCutout(VectorizedBaseImageAugmentationLayer):
    """Mask one rectangle that lies wholly inside the image.

    Height and width are uniform in [0, max_fraction) of the side, independent, and rounded to whole pixels; the place
    is uniform over all at which the rectangle lies inside. The masked share of the area is
    `max_fraction ** 2 / 4` on average (but for rounding) and below `max_fraction ** 2`. The border of an image is masked
    less often than its middle.

    Args:
        max_fraction: largest height and width, as a fraction of the image's, 0 to 1.
        fill_mode: `constant` or `gaussian_noise`.
        fill_value: level, or mean of the noise, 0 to 255.
        kwargs: `dtype` and `seed`, for keras-cv.
    """

    def __init__(self, max_fraction: float, *, fill_mode: str, fill_value: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max_fraction = max_fraction
        self.fill_mode = fill_mode
        self.fill_value = fill_value

    def get_random_transformation_batch(
        self, batch_size: Any, images: tf.Tensor, **_: Any
    ) -> dict[str, tf.Tensor]:
        """Return where the rectangles lie.

        Returns:
            `starts` and `ends`, `[batch, 2]` int32: first row and column inside, first ones behind, in pixels;
            `fill` where it is noise.
        """
        sides = tf.shape(images)[1:3]
        lengths = self._random_generator.uniform([batch_size, 2], 0.0, self.max_fraction)
        lengths = tf.cast(tf.round(lengths * tf.cast(sides, tf.float32)), tf.int32)
        places = tf.cast(sides - lengths + 1, tf.float32)
        # Below `places` also after rounding: these numbers are at most 1 - 2 ** -24.
        starts = tf.cast(self._random_generator.uniform([batch_size, 2]) * places, tf.int32)
        fill = drawn_fill(self._random_generator, images, self.fill_mode, self.fill_value)
        return {"starts": starts, "ends": starts + lengths, **fill}

    def augment_images(self, images: tf.Tensor, transformations: dict[str, tf.Tensor], **_: Any) -> tf.Tensor:
        """Return the images with their rectangles filled, the shape kept."""
        size = tf.shape(images)
        inside = [
            (tf.range(size[1 + axis]) >= transformations["starts"][:, axis, None])
            & (tf.range(size[1 + axis]) < transformations["ends"][:, axis, None])
            for axis in (0, 1)
        ]
        masked = inside[0][:, :, None, None] & inside[1][:, None, :, None]
        return filled(images, masked, transformations, self.fill_value)

"""One rectangle masked, as large as was asked for, wherever it lies.

keras-cv 0.9.0 limits the width by the picture's height; puts the middle of the rectangle anywhere, so that at the border
part of it is lost (23 % of the area on average, where it is half as high and wide as the picture); draws height and width from one seed, so
that every rectangle has the picture's shape; and masks at least one pixel at any strength above 0.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from keras_cv.layers import VectorizedBaseImageAugmentationLayer

from kerastl.augment.corrected.fill import drawn_fill, filled


class WholeCutout(VectorizedBaseImageAugmentationLayer):
    """Mask one rectangle that lies wholly inside the picture.

    Height and width are uniform in [0, max_fraction) of the side, independent, and rounded to whole pixels; the place
    is uniform over all at which the rectangle lies inside. The masked share of the area is
    `max_fraction ** 2 / 4` on average (but for rounding) and below `max_fraction ** 2`. The border of a picture is masked
    less often than its middle.

    Args:
        max_fraction: largest height and width, as a fraction of the picture's, 0 to 1.
        fill_mode: `constant` or `gaussian_noise`.
        fill_value: level, or mean of the noise, 0 to 255.
        kwargs: `dtype` and `seed`, for keras-cv.
    """

    def __init__(
        self, max_fraction: float, *, fill_mode: str, fill_value: float, **kwargs: Any
    ) -> None:
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

    def augment_images(
        self, images: tf.Tensor, transformations: dict[str, tf.Tensor], **_: Any
    ) -> tf.Tensor:
        """Return the pictures with their rectangles filled, the shape kept."""
        size = tf.shape(images)
        inside = [
            (tf.range(size[1 + axis]) >= transformations["starts"][:, axis, None])
            & (tf.range(size[1 + axis]) < transformations["ends"][:, axis, None])
            for axis in (0, 1)
        ]
        masked = inside[0][:, :, None, None] & inside[1][:, None, :, None]
        return filled(images, masked, transformations, self.fill_value)

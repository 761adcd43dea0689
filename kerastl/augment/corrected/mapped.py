"""A layer that resamples each picture once, by one affine map: what the corrected geometric layers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from keras_cv.layers import VectorizedBaseImageAugmentationLayer
from keras_cv.src.utils import preprocessing

Maps = Callable[[Any, int], tf.Tensor]


class Mapped(VectorizedBaseImageAugmentationLayer):
    """Show each picture through its map, with bilinear interpolation, as keras-cv's own geometric layers do.

    Args:
        maps: from what was drawn and the side of the picture in pixels to `[batch, 6]` float64, see
            `kerastl.augment.affine`.
        fill_mode: what lies outside of the picture; None where nothing outside is ever shown.
        kwargs: `dtype` and `seed`, for keras-cv.
    """

    def __init__(self, maps: Maps, *, fill_mode: str | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.maps = maps
        self.fill_mode = fill_mode

    def augment_images(
        self, images: tf.Tensor, transformations: dict[str, tf.Tensor], **_: Any
    ) -> tf.Tensor:
        """Return the resampled pictures, the shape kept; they are square."""
        maps = tf.cast(self.maps(transformations, int(images.shape[1])), tf.float32)
        # The last two numbers would bend straight lines.
        projective = tf.pad(maps, [[0, 0], [0, 2]])
        moved = preprocessing.transform(images, projective, fill_mode=self.fill_mode or "nearest")
        return tf.ensure_shape(moved, images.shape)

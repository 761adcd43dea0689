"""Base of layers that mix an image with a changed copy of itself: nothing of it at 0, nothing but it at 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from keras_cv.layers import VectorizedBaseImageAugmentationLayer
from keras_cv.src.utils import preprocessing
from scipy.stats import norm


class BlendedLayer(VectorizedBaseImageAugmentationLayer):
    """Draw for each image how much of the changed copy is mixed in.

    Args:
        max_fraction: largest share of the changed copy, 0 to 1; each image's is uniform in [0, max_fraction).
        kwargs: `dtype` and `seed`, for keras-cv.
    """

    def __init__(self, max_fraction: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max_fraction = max_fraction

    def changed(self, images: tf.Tensor) -> tf.Tensor:  # noqa: ARG002 - those that fill it in need them
        """Return the changed copies.

        Args:
            images: `[batch, height, width, channels]` float32 in [0, 255].

        Returns:
            The same shape, type and range.
        """
        raise AssertionError(f"{type(self).__name__} does not say what it changes")

    def get_random_transformation_batch(
        self,
        batch_size: Any,
        images: Any = None,  # noqa: ARG002 - keras-cv passes it
        **_: Any,
    ) -> dict[str, tf.Tensor]:
        """Return `fractions`: `[batch, 1, 1, 1]` float32, the share of the changed copy."""
        shape = [batch_size, 1, 1, 1]
        return {"fractions": self._random_generator.uniform(shape, 0.0, self.max_fraction)}

    def augment_images(self, images: tf.Tensor, transformations: dict[str, tf.Tensor], **_: Any) -> tf.Tensor:
        """Return `image + fraction * (changed copy - image)`, the shape kept.

        Written so, what the copy leaves alone stays as it is, byte for byte, at any fraction.
        """
        return images + transformations["fractions"] * (self.changed(images) - images)


NOISE_SD = 255.0 / 6
"""Pixel levels: about the middle gray, three standard deviations reach both ends of the range."""
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
    """Return the images with the fill where they are masked.

    Args:
        images: `[batch, height, width, channels]` float32 in [0, 255].
        masked: `[batch, height, width, 1]` bool.
        transformations: hold `fill` where it is noise.
        value: the level where it is constant.
    """
    return tf.where(masked, transformations.get("fill", value), images)


AffineMaps = Callable[[Any, int], tf.Tensor]


class AffineLayer(VectorizedBaseImageAugmentationLayer):
    """Show each image through its map, with bilinear interpolation, as keras-cv's own geometric layers do.

    Args:
        maps: from what was drawn and the side of the image in pixels to `[batch, 6]` float64, see
            `kerastl.augment.geometry`.
        fill_mode: what lies outside of the image; None where nothing outside is ever shown.
        kwargs: `dtype` and `seed`, for keras-cv.
    """

    def __init__(self, maps: AffineMaps, *, fill_mode: str | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.maps = maps
        self.fill_mode = fill_mode

    def augment_images(self, images: tf.Tensor, transformations: dict[str, tf.Tensor], **_: Any) -> tf.Tensor:
        """Return the resampled images, the shape kept; they are square."""
        maps = tf.cast(self.maps(transformations, int(images.shape[1])), tf.float32)
        # The last two numbers would bend straight lines.
        projective = tf.pad(maps, [[0, 0], [0, 2]])
        moved = preprocessing.transform(images, projective, fill_mode=self.fill_mode or "nearest")
        return tf.ensure_shape(moved, images.shape)

"""Base classes of corrected keras-cv layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from keras_cv.layers import VectorizedBaseImageAugmentationLayer
from keras_cv.src.utils import preprocessing
from scipy.stats import norm

from kerastl.image_size import Size, as_size

Samples = dict[str, tf.Tensor]
"""Sampled parameters of a layer by name, with one row per image."""


class OperationLayer(VectorizedBaseImageAugmentationLayer):
    """Base class of layers that take the options of their operation.

    Args:
        options: Options of the operation.
        kwargs: `dtype` and `seed`, for keras-cv.
    """

    def __init__(self, options: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.options = options


class BlendedLayer(OperationLayer):
    """Blend each image with a changed copy by a random weight, uniform in [0, max_fraction).

    A subclass has a method `changed(images)`, which returns the changed copies of images `[batch, height,
    width, channels]` float32 in [0, 255].
    """

    def get_random_transformation_batch(self, batch_size: Any, **_: Any) -> Samples:
        """Return `fractions`, `[batch, 1, 1, 1]` float32, the weights of the copies."""
        shape = [batch_size, 1, 1, 1]
        return {"fractions": self._random_generator.uniform(shape, 0.0, self.options.max_fraction)}

    def augment_images(self, images: tf.Tensor, transformations: Samples, **_: Any) -> tf.Tensor:
        """Return `image + fraction * (copy - image)`: unchanged pixels keep their bytes at any fraction."""
        return images + transformations["fractions"] * (self.changed(images) - images)


NOISE_SD = 255.0 / 6
"""Pixel levels; three standard deviations around middle gray cover the range."""
NUM_QUANTILES = 4096
"""Normal numbers are read from a table of quantiles, because logarithms and sines are rounded differently for each
batch size. The standard deviation of the table is 0.9999."""
NORMAL_QUANTILES = norm.ppf((np.arange(NUM_QUANTILES) + 0.5) / NUM_QUANTILES).astype(np.float32)


def sample_fill(generator: Any, images: tf.Tensor, options: Any) -> Samples:
    """Sample the fill of masked pixels.

    Args:
        generator: Has `uniform(shape)`.
        images: `[batch, height, width, channels]`; only the shape is used.
        options: `fill_mode` (`constant` or `gaussian_noise`) and `fill_value`, the level or the mean of the noise, 0 to 255.

    Returns:
        For noise `fill`, float32 in [0, 255] of the shape of the images; for a constant an empty dict.
    """
    if options.fill_mode == "constant":
        return {}
    uniform = generator.uniform([tf.shape(images)[0], *images.shape[1:]])
    normal = tf.gather(NORMAL_QUANTILES, tf.cast(uniform * NUM_QUANTILES, tf.int32))
    return {"fill": tf.clip_by_value(options.fill_value + NOISE_SD * normal, 0.0, 255.0)}


def fill_masked(images: tf.Tensor, masked: tf.Tensor, transformations: Samples, options: Any) -> tf.Tensor:
    """Return the images with masked pixels filled.

    Args:
        images: `[batch, height, width, channels]` float32 in [0, 255].
        masked: `[batch, height, width, 1]` bool.
        transformations: May hold `fill`, from `sample_fill`.
        options: `fill_value` is the level otherwise.
    """
    return tf.where(masked, transformations.get("fill", options.fill_value), images)


AffineMaps = Callable[[Any, Size], tf.Tensor]


class AffineLayer(OperationLayer):
    """Resample each image by an affine map, with bilinear interpolation as in keras-cv.

    Args:
        options: Options of the operation. Without `fill_mode`, pixels outside the image are never shown.
        maps: Function from sampled parameters and (height, width) in pixels to `[batch, 6]` float64; see
            `kerastl.augment.geometry`.
        kwargs: `dtype` and `seed`, for keras-cv.
    """

    def __init__(self, options: Any, maps: AffineMaps, **kwargs: Any) -> None:
        super().__init__(options, **kwargs)
        self.maps = maps

    def augment_images(self, images: tf.Tensor, transformations: Samples, **_: Any) -> tf.Tensor:
        """Return the resampled images."""
        maps = tf.cast(self.maps(transformations, as_size(images.shape[1:3])), tf.float32)
        # The last two coefficients, of perspective, are 0.
        projective = tf.pad(maps, [[0, 0], [0, 2]])
        fill_mode = getattr(self.options, "fill_mode", "nearest")
        warped = preprocessing.transform(images, projective, fill_mode=fill_mode)
        return tf.ensure_shape(warped, images.shape)

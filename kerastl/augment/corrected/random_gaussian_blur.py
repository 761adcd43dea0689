"""Gaussian blur that keeps a constant picture constant, batched, a width for each picture.

keras-cv 0.9.0's RandomGaussianBlur takes what lies outside of a picture for black, so that its borders darken; its
kernel has the size it is told, however wide the Gaussian, and an even one shifts the picture by half a pixel; it works
per picture.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf
from keras_cv.layers import VectorizedBaseImageAugmentationLayer

from kerastl.augment.affine import WIDEST_VECTOR

KERNEL_SIGMAS = 3.0
"""The kernel ends where the Gaussian has fallen to 1 % of its middle; 0.3 % of its area lie beyond."""
NARROWEST_PX = 0.05
"""A narrower Gaussian has no weight that a float32 holds outside of its middle."""


class ReflectedGaussianBlur(VectorizedBaseImageAugmentationLayer):
    """Blur each picture, mirrored at its borders (about the middle of the outermost pixel).

    Args:
        max_sigma_px: largest standard deviation of the Gaussian, in pixels, above 0; each picture's is uniform in
            [0, max_sigma_px).
        kwargs: `dtype` and `seed`, for keras-cv.
    """

    def __init__(self, max_sigma_px: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max_sigma_px = max_sigma_px
        self.radius_px = math.ceil(KERNEL_SIGMAS * max_sigma_px)

    def get_random_transformation_batch(
        self,
        batch_size: Any,
        images: Any = None,  # noqa: ARG002 - keras-cv passes it
        **_: Any,
    ) -> dict[str, tf.Tensor]:
        """Return `weights`: `[batch, radius + 1]` float32, half of each kernel, from its middle outwards."""
        sigmas = self._random_generator.uniform([batch_size], 0.0, self.max_sigma_px)
        return {"weights": kernel_halves(sigmas, self.radius_px)}

    def augment_images(
        self, images: tf.Tensor, transformations: dict[str, tf.Tensor], **_: Any
    ) -> tf.Tensor:
        """Return the blurred pictures, the shape kept."""
        weights = transformations["weights"]
        return _blurred(_blurred(images, weights, axis=1), weights, axis=2)


def kernel_halves(sigmas_px: tf.Tensor, radius_px: int) -> tf.Tensor:
    """Return half of a Gaussian kernel for each width.

    Args:
        sigmas_px: `[batch]` float32, standard deviations in pixels, 0 or more.
        radius_px: pixels from the middle of the kernel to its last weight.

    Returns:
        `[batch, radius_px + 1]` float32, from the middle outwards; the whole kernels sum to 1.
    """
    # TensorFlow has one formula for whole vectors of exponentials, another for the rest of a batch, which differ in
    # the last digit. Rows of whole vectors all take the first.
    filled = math.ceil((radius_px + 1) / WIDEST_VECTOR) * WIDEST_VECTOR
    squares = tf.constant(np.arange(filled) ** 2, tf.float32)
    sigmas_px = tf.maximum(sigmas_px, NARROWEST_PX)
    heights = tf.exp(-squares / (2.0 * sigmas_px * sigmas_px)[:, None])[:, : radius_px + 1]
    middle, *outer = tf.unstack(heights, axis=1)
    return heights / (middle + 2.0 * tf.add_n(outer))[:, None]


def _blurred(images: tf.Tensor, weights: tf.Tensor, axis: int) -> tf.Tensor:
    """Blur along the rows (axis 1) or columns (axis 2) of `[batch, height, width, channels]` pictures."""
    size, radius = images.shape[axis], weights.shape[1] - 1
    if size == 1:
        return images
    mirrored = _mirrored(images, radius, axis)

    def moved(pixels: int) -> tf.Tensor:
        """Return the pictures moved by so many pixels."""
        seen = slice(radius + pixels, radius + pixels + size)
        return mirrored[:, seen] if axis == 1 else mirrored[:, :, seen]

    weights = weights[:, :, None, None, None]
    # Differences from the middle: a constant picture stays the same to the last digit.
    result = images
    for pixels in range(1, radius + 1):
        result += weights[:, pixels] * ((moved(pixels) - images) + (moved(-pixels) - images))
    return result


def _mirrored(images: tf.Tensor, radius: int, axis: int) -> tf.Tensor:
    """Return the pictures with so many more pixels at both ends of an axis, two pixels or longer."""
    # A mirrored picture mirrored again is what two mirrors facing each other show. (Gathering the pixels by their
    # places is as short, and eight times slower in XLA; `tf.pad` refuses an empty batch.)
    while radius > 0:
        pixels = min(radius, images.shape[axis] - 1)
        before, after = slice(1, pixels + 1), slice(-pixels - 1, -1)
        ends = (
            (images[:, before], images[:, after])
            if axis == 1
            else (images[:, :, before], images[:, :, after])
        )
        first, last = (tf.reverse(end, [axis]) for end in ends)
        images = tf.concat([first, images, last], axis=axis)
        radius -= pixels
    return images

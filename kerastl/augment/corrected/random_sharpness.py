"""Sharper and softer pictures, with the sign that Pillow's `ImageEnhance.Sharpness` gives.

keras-cv 0.9.0's RandomSharpness softens only: its factor 0 is the picture, 1 the smoothed one. Pillow's factor 0 is the
smoothed picture, 1 the picture, 2 as much sharper. A difference here is Pillow's factor less 1.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from keras_cv.layers import VectorizedBaseImageAugmentationLayer

SIGNS = {"both": (-1.0, 1.0), "sharper": (0.0, 1.0), "softer": (-1.0, 0.0)}
"""Bounds of the difference, as multiples of the largest one, by direction."""
KERNEL_SUM = 13.0
"""Of the smoothing kernel 1 1 1, 1 5 1, 1 1 1 (Pillow's `ImageFilter.SMOOTH`)."""


class SignedSharpness(VectorizedBaseImageAugmentationLayer):
    """Add or take away what smoothing would remove.

    Args:
        max_fraction: largest difference, 0 to 1: 1 softens down to the smoothed picture and sharpens as far the other
            way.
        direction: `both`, `sharper` or `softer`.
        kwargs: `dtype` and `seed`, for keras-cv.
    """

    def __init__(self, max_fraction: float, direction: str = "both", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bounds = tuple(sign * max_fraction for sign in SIGNS[direction])

    def get_random_transformation_batch(
        self,
        batch_size: Any,
        images: Any = None,  # noqa: ARG002 - keras-cv passes it
        **_: Any,
    ) -> dict[str, tf.Tensor]:
        """Return `differences`: `[batch, 1, 1, 1]` float32, above 0 sharper, below 0 softer."""
        shape = [batch_size, 1, 1, 1]
        return {"differences": self._random_generator.uniform(shape, *self.bounds)}

    def augment_images(
        self, images: tf.Tensor, transformations: dict[str, tf.Tensor], **_: Any
    ) -> tf.Tensor:
        """Return the pictures, clipped to [0, 255], the shape and the outermost pixels kept."""
        changed = images + transformations["differences"] * _detail(images)
        return tf.clip_by_value(changed, 0.0, 255.0)


def _detail(images: tf.Tensor) -> tf.Tensor:
    """Return pictures less their smoothed copies, 0 in the outermost pixels; exactly 0 where a picture is constant.

    The nine pixels sum to (3 + rows)(3 + columns) applied to a picture, where `rows` and `columns` are its second
    differences. So the picture less its smoothed copy is -(3 columns + rows (3 + columns)) / 13 applied to it, which
    takes three additions a pixel each way and, unlike a convolution with a kernel for each channel, is fast in XLA.
    """
    if min(images.shape[1:3]) < 3:
        # All pixels are outermost ones.
        return tf.zeros_like(images)
    inner = images[:, :, 1:-1]
    columns = (images[:, :, :-2] - inner) + (images[:, :, 2:] - inner)
    both = 3.0 * inner + columns
    middle = both[:, 1:-1]
    rows = (both[:, :-2] - middle) + (both[:, 2:] - middle)
    detail = (3.0 * columns[:, 1:-1] + rows) / -KERNEL_SUM
    return tf.pad(detail, [[0, 0], [1, 1], [1, 1], [0, 0]])

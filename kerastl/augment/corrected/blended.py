"""Base of layers that mix a picture with a changed copy of itself: nothing of it at 0, nothing but it at 1."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from keras_cv.layers import VectorizedBaseImageAugmentationLayer


class Blended(VectorizedBaseImageAugmentationLayer):
    """Draw for each picture how much of the changed copy is mixed in.

    Args:
        max_fraction: largest share of the changed copy, 0 to 1; each picture's is uniform in [0, max_fraction).
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

    def augment_images(
        self, images: tf.Tensor, transformations: dict[str, tf.Tensor], **_: Any
    ) -> tf.Tensor:
        """Return `image + fraction * (changed copy - image)`, the shape kept.

        Written so, what the copy leaves alone stays as it is, byte for byte, at any fraction.
        """
        return images + transformations["fractions"] * (self.changed(images) - images)

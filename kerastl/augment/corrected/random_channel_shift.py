"""One number added to each channel, batched.

keras-cv 0.9.0's RandomChannelShift works per picture; in a graph and with a seed it adds the same number, but for its
sign, to all channels; its strength 1 is half of the range; it drops every channel after the third in silence and fails
on grey pictures unless it is told the number of channels.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from keras_cv.layers import VectorizedBaseImageAugmentationLayer

from kerastl.augment.operation import LARGEST_PIXEL


class SteadyChannelShift(VectorizedBaseImageAugmentationLayer):
    """Add to each channel of each picture a number of its own.

    Args:
        max_fraction: largest shift either way, as a fraction of 255; uniform.
        kwargs: `dtype` and `seed`, for keras-cv.
    """

    def __init__(self, max_fraction: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max_fraction = max_fraction

    def get_random_transformation_batch(
        self, batch_size: Any, images: tf.Tensor, **_: Any
    ) -> dict[str, tf.Tensor]:
        """Return `shifts`: `[batch, 1, 1, channels]` float32, in pixel levels."""
        largest = self.max_fraction * LARGEST_PIXEL
        shape = [batch_size, 1, 1, images.shape[-1]]
        return {"shifts": self._random_generator.uniform(shape, -largest, largest)}

    def augment_images(
        self, images: tf.Tensor, transformations: dict[str, tf.Tensor], **_: Any
    ) -> tf.Tensor:
        """Return the shifted pictures, clipped to [0, 255], the shape kept."""
        return tf.clip_by_value(images + transformations["shifts"], 0.0, LARGEST_PIXEL)

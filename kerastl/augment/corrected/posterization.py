"""Levels of which only the leading bits are left, a number of bits for each picture.

keras-cv 0.9.0's Posterization gives every picture the same bits and cannot draw; with 8 bits, where nothing should
happen, it rounds levels down to whole ones.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf
from keras_cv.layers import VectorizedBaseImageAugmentationLayer

PIXEL_BITS = 8
STEPS = tuple(2.0 ** (PIXEL_BITS - bits) for bits in range(PIXEL_BITS + 1))
"""Pixel levels between neighbours when so many bits are left. A table: powers computed on the spot may differ in the
last digit between batches."""


class SteadyPosterization(VectorizedBaseImageAugmentationLayer):
    """Round every level down to a multiple of 2, 4, 8 ... 128.

    Args:
        min_bits: fewest bits that are left, 1 to 7; a whole number from there to 7 is drawn, each equally often.
        kwargs: `dtype` and `seed`, for keras-cv.
    """

    def __init__(self, min_bits: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # Above 7 the operation is the identity and no layer is asked; 7.5 means 7 then.
        self.min_bits = min(math.ceil(min_bits), PIXEL_BITS - 1)

    def get_random_transformation_batch(
        self,
        batch_size: Any,
        images: Any = None,  # noqa: ARG002 - keras-cv passes it
        **_: Any,
    ) -> dict[str, tf.Tensor]:
        """Return `steps`: `[batch, 1, 1, 1]` float32, the levels between neighbours: 2 to 128, a power of 2."""
        drawn = self._random_generator.uniform([batch_size, 1, 1, 1], self.min_bits, PIXEL_BITS)
        # The sum can be rounded up to 8.
        bits = tf.minimum(tf.cast(drawn, tf.int32), PIXEL_BITS - 1)
        return {"steps": tf.gather(tf.constant(STEPS, tf.float32), bits)}

    def augment_images(
        self, images: tf.Tensor, transformations: dict[str, tf.Tensor], **_: Any
    ) -> tf.Tensor:
        """Return the pictures with fewer levels, the shape kept."""
        steps = transformations["steps"]
        # Exact: a float32 is divided and multiplied by powers of two.
        return tf.floor(images / steps) * steps

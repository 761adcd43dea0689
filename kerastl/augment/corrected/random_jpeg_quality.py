"""Pictures as JPEG gives them back, for float32 levels in [0, 255].

keras-cv 0.9.0 hands float pictures to `tf.image.adjust_jpeg_quality`, which takes floats for [0, 1]: every level from 1
on becomes white. It never draws its largest quality, and draws from the global generator.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf
from keras_cv.layers import VectorizedBaseImageAugmentationLayer

UNTOUCHED = 100
"""Quality at which a picture is left alone. JPEG itself loses something even there."""


class SteadyJpegQuality(VectorizedBaseImageAugmentationLayer):
    """Encode each picture as JPEG and decode it again.

    Args:
        min_quality: lowest quality, 1 to 100; a whole number from there to 100 is drawn, each equally often.
        kwargs: `dtype` and `seed`, for keras-cv.
    """

    def __init__(self, min_quality: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.min_quality = math.ceil(min_quality)

    def get_random_transformation_batch(
        self,
        batch_size: Any,
        images: Any = None,  # noqa: ARG002 - keras-cv passes it
        **_: Any,
    ) -> dict[str, tf.Tensor]:
        """Return `qualities`: `[batch]` int32, min_quality to 100."""
        drawn = self._random_generator.uniform([batch_size], self.min_quality, UNTOUCHED + 1)
        # The sum can be rounded up to 101.
        return {"qualities": tf.minimum(tf.cast(drawn, tf.int32), UNTOUCHED)}

    def augment_images(
        self, images: tf.Tensor, transformations: dict[str, tf.Tensor], **_: Any
    ) -> tf.Tensor:
        """Return the decoded pictures, whole levels, the shape kept; those of quality 100 as they were."""
        return tf.map_fn(
            lambda one: tf.cond(
                one[1] == UNTOUCHED, lambda: one[0], lambda: _through_jpeg(one[0], one[1])
            ),
            (images, transformations["qualities"]),
            fn_output_signature=tf.TensorSpec(images.shape[1:], tf.float32),
        )


def _through_jpeg(image: tf.Tensor, quality: tf.Tensor) -> tf.Tensor:
    """Encode and decode one `[height, width, 1 or 3]` float32 picture in [0, 255], colours at half resolution."""
    levels = tf.cast(tf.round(tf.clip_by_value(image, 0.0, 255.0)), tf.uint8)
    encoded = tf.raw_ops.EncodeJpegVariableQuality(images=levels, quality=quality)
    # The accurate transform is one of whole numbers: the same bytes on every machine.
    decoded = tf.io.decode_jpeg(encoded, channels=image.shape[-1], dct_method="INTEGER_ACCURATE")
    return tf.ensure_shape(tf.cast(decoded, tf.float32), image.shape)

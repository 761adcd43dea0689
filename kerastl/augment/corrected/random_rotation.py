"""keras-cv's rotation, made to turn a picture by the same bytes whatever stands beside it in the batch."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from keras_cv import layers
from keras_cv.src.utils import preprocessing

WIDEST_VECTOR = 16
"""float32 numbers in the widest vector unit (AVX-512)."""


class SteadyRotation(layers.RandomRotation):
    """`keras_cv.layers.RandomRotation` with sines and cosines that do not depend on the batch.

    TensorFlow computes them by two formulas: one for whole vectors of numbers, another for what is left at
    the end of a batch. They differ in the last digit, and at the border of a picture by a few hundredths
    of a pixel level. Here every angle fills whole vectors, so that all take the first formula.
    """

    def _rotate_images(self, images: tf.Tensor, transformations: dict[str, Any]) -> tf.Tensor:
        height, width = (tf.cast(size, tf.float32) for size in tf.unstack(tf.shape(images)[1:3]))
        angles = tf.repeat(transformations["angles"], WIDEST_VECTOR)
        matrices = preprocessing.get_rotation_matrix(angles, height, width)
        turned = preprocessing.transform(
            images,
            matrices[::WIDEST_VECTOR],
            fill_mode=self.fill_mode,
            fill_value=self.fill_value,
            interpolation=self.interpolation,
        )
        return tf.ensure_shape(turned, images.shape)

"""keras-cv's rotation, made to turn a picture by the same bytes whatever stands beside it in the batch."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from keras_cv import layers
from keras_cv.src.utils import preprocessing

from kerastl.augment.affine import steady


class SteadyRotation(layers.RandomRotation):
    """`keras_cv.layers.RandomRotation` with `kerastl.augment.affine.steady` sines and cosines.

    Those of its own would move the border of a picture by a few hundredths of a pixel level with the batch.
    """

    def _rotate_images(self, images: tf.Tensor, transformations: dict[str, Any]) -> tf.Tensor:
        height, width = (tf.cast(size, tf.float32) for size in tf.unstack(tf.shape(images)[1:3]))
        matrices = steady(
            lambda angles: preprocessing.get_rotation_matrix(angles, height, width),
            transformations["angles"],
        )
        turned = preprocessing.transform(
            images,
            matrices,
            fill_mode=self.fill_mode,
            fill_value=self.fill_value,
            interpolation=self.interpolation,
        )
        return tf.ensure_shape(turned, images.shape)

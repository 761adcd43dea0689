"""A trained model that answers one batch after the other, nobody knows how many."""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf

from kerastl.backbones import for_inference


class Forward:
    """A model in inference.

    Folding and tracing take as long as some batches that run layer by layer, and each batch then takes a third of the time
    (MobileNetV2 at 96 pixels on a CPU). So the first batch, often the only one, is answered as the model stands.

    Args:
        model: `[b, h, w, 3]` float32 in [0, 255] to logits `[b, classes]`; its weights stay as they are.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model, self._answered_one = model, False
        self._traced: Callable[[tf.Tensor], tf.Tensor] | None = None

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Return the logits of some pictures."""
        if not self._answered_one:
            self._answered_one = True
            return self._model(images, training=False)
        if self._traced is None:
            folded = for_inference(self._model)
            self._traced = tf.function(
                lambda one: folded(one, training=False),
                input_signature=[tf.TensorSpec([None, *self._model.input_shape[1:]], tf.float32)],
            )
        return self._traced(images)

"""Traced functions with one signature, so that a smaller last batch is not traced a second time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


def signature_of(model: keras.Model) -> Any:
    """Return the shapes of a model's inputs with a free batch: one, or a list of them."""
    specs = [tf.TensorSpec([None, *one.shape[1:]], tf.float32) for one in model.inputs]
    return specs[0] if len(specs) == 1 else specs


def inference(model: keras.Model) -> Callable[[Any], tf.Tensor]:
    """Return a traced function from what a model takes to what it gives in inference."""
    forward: Callable[[Any], tf.Tensor] = tf.function(
        lambda inputs: model(inputs, training=False),
        input_signature=[signature_of(model)],
        autograph=False,
    )
    return forward

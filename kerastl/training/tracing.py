"""Traced functions with one signature, so that a smaller last batch is not traced a second time."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import keras
import tensorflow as tf


def signature_of(model: keras.Model) -> Any:
    """Return the shapes of a model's inputs with a free batch: one, or a list of them."""
    specs = [tf.TensorSpec([None, *one.shape[1:]], tf.float32) for one in model.inputs]
    return specs[0] if len(specs) == 1 else specs


def traced(call: Callable[[Any], Any], model: keras.Model) -> Callable[[Any], Any]:
    """Return a function of what a model takes as one graph, made when it is first called.

    The graph alone is called: TensorFlow takes functions that are made anew again and again, as one for each candidate, for
    one that is traced at each call, and warns.
    """

    @cache
    def graph() -> Callable[[Any], Any]:
        made: Callable[[Any], Any] = tf.function(call, autograph=False).get_concrete_function(
            signature_of(model)
        )
        return made

    return lambda inputs: graph()(inputs)


def inference(model: keras.Model) -> Callable[[Any], Any]:
    """Return a traced function from what a model takes to what it gives in inference."""
    return traced(lambda inputs: model(inputs, training=False), model)

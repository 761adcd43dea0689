"""What a classifier's head reads, and what it answers, in one pass."""

from __future__ import annotations

import weakref
from typing import Any

import keras
import tensorflow as tf

_known: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def features_and_logits(
    model: keras.Model, images: Any, *, training: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """Run a classifier once and return what its head reads beside what it answers.

    Args:
        model: a classifier of `build_model`, or what the loop trains in its place: a folded front with the layers
            behind it as a model within, or these alone, which read cached activations. Its last operation is its head,
            or a model that ends so.
        images: what `model` takes: `[batch, h, w, 3]` float32 in [0, 255], or activations.
        training: dropout is on, and BatchNorm that is not frozen normalises by the batch.

    Returns:
        Features `[batch, features]` float32, pooled and behind the head's dropout, so that `logits` are the head of
        these features exactly; and logits `[batch, classes]` float32.
    """
    _, both = _parts(model)
    features, logits = both(images, training=training)
    return tf.cast(features, tf.float32), tf.cast(logits, tf.float32)


def logits_of_frozen_head(model: keras.Model, images: Any, *, training: bool) -> tf.Tensor:
    """Return logits as `features_and_logits` does, the weights of the head being constants.

    They get a gradient of 0, not none, so that an optimizer that holds them finds one for each of its variables.

    Args:
        model, images, training: as in `features_and_logits`.
    """
    head, _ = _parts(model)
    features, _ = features_and_logits(model, images, training=training)
    weights = [tf.cast(tf.convert_to_tensor(one), tf.float32) for one in (head.kernel, head.bias)]
    kernel, bias = (tf.stop_gradient(one) for one in weights)
    nothing = tf.add_n([0.0 * tf.reduce_sum(one) for one in weights])
    return tf.matmul(features, kernel) + bias + nothing


def head_paths(model: keras.Model) -> set[str]:
    """Return the paths of the weights of a flat classifier's head."""
    return {one.path for one in model.get_layer("head").weights}


def _parts(model: keras.Model) -> tuple[Any, keras.Model]:
    """Return the head of a classifier, and the model that gives what it reads beside what it answers."""
    if model not in _known:
        with tf.init_scope():  # the first call may stand inside a function that is being traced
            _known[model] = _head_of(model), _with_features(model)
    return _known[model]


def _head_of(model: keras.Model) -> Any:
    (output,) = model.outputs
    last = output._keras_history.operation
    return _head_of(last) if isinstance(last, keras.Model) else last


def _with_features(model: keras.Model) -> keras.Model:
    """Return a model of the same layers with two outputs: what the last operation reads, and the answer."""
    (output,) = model.outputs
    history = output._keras_history
    node = history.operation._inbound_nodes[history.node_index]
    if isinstance(history.operation, keras.Model):
        outputs = _with_features(history.operation)(*node.arguments.args)
    else:
        outputs = [*node.input_tensors, output]
    inputs = model.inputs if len(model.inputs) > 1 else model.inputs[0]
    return keras.Model(inputs, outputs, name=f"{model.name}_with_features")

"""Features and logits of a classifier, and the networks that adversarial methods train on features."""

from __future__ import annotations

import weakref
from typing import Any

import keras
import tensorflow as tf

from kerastl.models import has_single_logit

_heads: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def has_head(model: Any) -> bool:
    """Return whether a model ends in a Dense layer `head`, as those of `build_model` do."""
    layers = {layer.name: layer for layer in getattr(model, "layers", ())}
    head = layers.get("head")
    is_dense = isinstance(head, keras.layers.Dense) and len(getattr(model, "outputs", None) or ()) == 1
    return is_dense and _with_features(model)[0] is head


def features_and_logits(model: keras.Model, images: Any, *, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
    """Run a classifier once and return the input of its head and its output.

    Args:
        model: A classifier of `build_model`, or what the training loop uses instead: a folded trunk with the
            remaining layers as a nested model, or only the remaining layers, which read cached activations.
            The last operation is the head, perhaps with `two_logits`, or a model that ends with it.
        images: The input of `model`: `[batch, h, w, 3]` float32 in [0, 255], or activations.
        training: Whether dropout is active and BatchNorm that is not frozen uses the statistics of the batch.

    Returns:
        Features `[batch, features]` float32, after pooling and dropout, so that `logits` are exactly the
        head's output for them; and logits `[batch, classes]` float32.
    """
    _, with_features = _head_and_model(model)
    features, logits = with_features(images, training=training)
    return tf.cast(features, tf.float32), tf.cast(logits, tf.float32)


def logits_of_frozen_head(model: keras.Model, images: Any, *, training: bool) -> tf.Tensor:
    """Return logits as `features_and_logits` does, but with constant head weights.

    The head gets a gradient of 0 instead of None, because an optimizer needs a gradient for each of its
    variables.

    Args:
        model, images, training: As in `features_and_logits`.
    """
    head, _ = _head_and_model(model)
    features, _ = features_and_logits(model, images, training=training)
    weights = [tf.cast(tf.convert_to_tensor(weight), tf.float32) for weight in (head.kernel, head.bias)]
    kernel, bias = (tf.stop_gradient(weight) for weight in weights)
    zero = tf.add_n([0.0 * tf.reduce_sum(weight) for weight in weights])
    logits = tf.matmul(features, kernel) + bias + zero
    return logits if logits.shape[-1] > 1 else tf.pad(logits, ((0, 0), (1, 0)))


def _head_and_model(model: keras.Model) -> tuple[Any, keras.Model]:
    """Return the head of a classifier, and a model of features and logits; built once per classifier."""
    if model not in _heads:
        with tf.init_scope():  # The first call may be inside a function that is being traced.
            _heads[model] = _with_features(model)
    return _heads[model]


def _with_features(model: keras.Model) -> tuple[Any, keras.Model]:
    """Return the head of a model, and a model that returns the input of the head and the output of the model."""
    (output,) = model.outputs
    history = output._keras_history
    if has_single_logit(model):
        history = history.operation._inbound_nodes[history.node_index].input_tensors[0]._keras_history
    head = history.operation
    node = head._inbound_nodes[history.node_index]
    outputs = [*node.input_tensors, output]
    if isinstance(head, keras.Model):
        head, with_features = _with_features(head)
        outputs = with_features(*node.arguments.args)
    inputs = model.inputs if len(model.inputs) > 1 else model.inputs[0]
    return head, keras.Model(inputs, outputs, name=f"{model.name}_with_features")


def build_domain_classifier(num_inputs: int, *, hidden: int, seed: int) -> keras.Model:
    """Return a network with one hidden layer and logits `[batch, 1]`, positive for the source.

    Args:
        num_inputs: Number of input features.
        hidden: Units of the hidden layer.
        seed: Seed of the initial weights.
    """
    hidden_layer = _dense(hidden, "domain_hidden", seed, activation="relu")
    layers = [keras.Input((num_inputs,)), hidden_layer, _dense(1, "domain", seed + 1)]
    return keras.Sequential(layers, name="domain_classifier")


def build_second_head(num_features: int, num_classes: int, *, seed: int) -> keras.Model:
    """Return a single layer, `[batch, num_features]` to logits `[batch, num_classes]`."""
    layers = [keras.Input((num_features,)), _dense(num_classes, "second_head_logits", seed)]
    return keras.Sequential(layers, name="second_head")


def _dense(units: int, name: str, seed: int, activation: str | None = None) -> keras.layers.Dense:
    initializer = keras.initializers.GlorotUniform(seed=seed)
    # float32 under any policy, like the classifier's own head.
    return keras.layers.Dense(units, activation, dtype="float32", name=name, kernel_initializer=initializer)

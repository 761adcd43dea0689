"""Inference without BatchNorm: each is folded into the convolution before it, where that is the same computation."""

from __future__ import annotations

from collections import Counter
from typing import Any

import keras
import numpy as np

LINEAR = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
    keras.layers.Dense,
)


def fold(model: keras.Model) -> keras.Model:
    """Return a network that gives in inference what `model` does, with fewer layers to compute.

    A BatchNorm is folded where it stands directly behind a convolution (or Dense) without activation whose output
    nobody else reads: `w' = w * gamma / sqrt(variance + epsilon)`, `b' = (b - mean) * gamma / sqrt(variance + epsilon) +
    beta` (Jacob et al. 2018, arXiv:1712.05877, section 3.2). Others stay as they are.

    Args:
        model: functional and flat; its weights are copied, so later changes to them do not reach the result.

    Returns:
        A functional model for inference only, without the folded BatchNorms and without dropout; its layers are
        named alike.
    """
    pairs = foldable(model)
    convolutions = set(pairs.values())

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        if operation.name in pairs or isinstance(operation, keras.layers.Dropout):
            return args[0]
        config = operation.get_config()
        if operation.name in convolutions:
            config["use_bias"] = True
        return type(operation).from_config(config)(*args, **kwargs)

    folded = keras.models.clone_model(
        model, clone_function=lambda operation: operation, call_function=call
    )
    for layer in model.layers:
        if layer.weights and layer.name not in pairs and layer.name not in convolutions:
            folded.get_layer(layer.name).set_weights(layer.get_weights())
    for norm, convolution in pairs.items():
        values = _folded(model.get_layer(convolution), model.get_layer(norm))
        folded.get_layer(convolution).set_weights(values)
    folded.trainable = False
    return folded


def foldable(model: keras.Model) -> dict[str, str]:
    """Return which BatchNorm can be folded into which layer, by their names."""
    readers: Counter[int] = Counter(id(tensor) for tensor in model.outputs)
    for operation in model.operations:
        if not isinstance(operation, keras.layers.InputLayer):
            readers.update(id(tensor) for tensor in keras.tree.flatten(operation.input))
    makers = {id(operation.output): operation for operation in model.operations}
    pairs = {}
    for norm in model.layers:
        if isinstance(norm, keras.layers.BatchNormalization) and norm.axis in (-1, 3):
            maker = makers.get(id(norm.input))
            if not isinstance(maker, LINEAR) or maker.activation is not keras.activations.linear:
                continue
            if readers[id(norm.input)] == 1:
                pairs[norm.name] = maker.name
    return pairs


def _folded(layer: Any, norm: Any) -> list[np.ndarray[Any, Any]]:
    """Return the weights of a layer with a BatchNorm's scale and offset in them."""
    *kernels, last = layer.get_weights()
    bias = np.zeros((), np.float64)
    if layer.use_bias:
        bias, last = last, kernels.pop()
    mean, variance = (
        np.float64(norm.moving_mean.numpy()),
        np.float64(norm.moving_variance.numpy()),
    )
    scale = 1.0 / np.sqrt(variance + norm.epsilon)
    if norm.gamma is not None:
        scale = scale * norm.gamma.numpy()
    offset = (bias - mean) * scale
    if norm.beta is not None:
        offset = offset + norm.beta.numpy()
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    last = last * (scale.reshape(last.shape[-2:]) if depthwise else scale)
    return [*kernels, last.astype(np.float32), offset.astype(np.float32)]

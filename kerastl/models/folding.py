"""Inference without BatchNorm: each is folded into the convolution before it, where that is the same computation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

import keras
import numpy as np

TrunkPrecision = Literal["float32", "bfloat16"]
LINEAR_LAYERS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D, keras.layers.Dense)


def fold_batch_norm(model: keras.Model, precision: TrunkPrecision = "float32") -> keras.Model:
    """Return a network that gives in inference what `model` does, with fewer layers to compute.

    A BatchNorm is folded where it stands directly behind a convolution (or Dense) without activation whose output
    nobody else reads: `w' = w * gamma / sqrt(variance + epsilon)`, `b' = (b - mean) * gamma / sqrt(variance + epsilon) +
    beta` (Jacob et al. 2018, arXiv:1712.05877, section 3.2). Others stay as they are.

    Args:
        model: functional and flat; its weights are copied, so later changes to them do not reach the result.
        precision: what is computed in from the first convolution on; with `bfloat16` weights, averages over an image
            and outputs are float32 all the same.

    Returns:
        A functional model for inference only, without the folded BatchNorms and without dropout; its layers are
        named alike.
    """
    pairs = find_foldable(model)
    convolutions = set(pairs.values())
    rounding = False

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        if operation.name in pairs or isinstance(operation, keras.layers.Dropout):
            return args[0]
        nonlocal rounding
        config = operation.get_config()
        # Pixels are scaled in full: 8 bits of 255 would leave the dark ones none.
        rounding = rounding or (precision == "bfloat16" and isinstance(operation, LINEAR_LAYERS))
        if rounding and isinstance(operation, keras.layers.Layer):
            whole = isinstance(operation, keras.layers.GlobalAveragePooling2D)
            config["dtype"] = "float32" if whole else "mixed_bfloat16"
        if operation.name in convolutions:
            config["use_bias"] = True
        return type(operation).from_config(config)(*args, **kwargs)

    folded = clone_with(model, call)
    for layer in model.layers:
        if layer.weights and layer.name not in pairs and layer.name not in convolutions:
            folded.get_layer(layer.name).set_weights(layer.get_weights())
    for norm, convolution in pairs.items():
        values = _folded(model.get_layer(convolution), model.get_layer(norm))
        folded.get_layer(convolution).set_weights(values)
    if rounding:
        outputs = keras.tree.map_structure(lambda one: keras.ops.cast(one, "float32"), folded.output)
        folded = keras.Model(folded.input, outputs, name=folded.name)
    folded.trainable = False
    return folded


def clone_with(model: keras.Model, call: Callable[..., Any]) -> keras.Model:
    """Return a functional model whose operations `call(operation, *args, **kwargs)` calls one after the other."""
    # Without the optimizer that it was compiled with: Keras would try to copy that, too.
    bare = keras.Model(model.input, model.output, name=model.name)
    return keras.models.clone_model(bare, clone_function=lambda operation: operation, call_function=call)


def fold_for_inference(model: keras.Model) -> keras.Model:
    """Return what answers in inference as `model` does, folded where that is safe; else `model` itself.

    Safe is a flat functional network of Keras's own layers, each called once. Its answers differ by rounding, less
    than one part in 100,000 of the largest. Building it costs no more than tracing saves, which then meets fewer layers.

    Args:
        model: any; its weights are copied where it is folded, so ask anew when they have changed.
    """
    if not _is_flat(model) or not find_foldable(model):
        return model
    # A layer that is called twice stands behind one BatchNorm at most: folding it would change its other answer.
    nodes = [len(layer["inbound_nodes"]) for layer in model.get_config()["layers"]]
    return fold_batch_norm(model) if max(nodes) == 1 else model


def _is_flat(model: keras.Model) -> bool:
    """Tell whether a model is a graph of Keras's own layers and operations, none of them a model."""
    operations = getattr(model, "operations", None)
    return operations is not None and all(
        type(one).__module__.startswith("keras.src.") and not isinstance(one, keras.Model)
        for one in operations
    )


def find_foldable(model: keras.Model) -> dict[str, str]:
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
            if not isinstance(maker, LINEAR_LAYERS) or maker.activation is not keras.activations.linear:
                continue
            if readers[id(norm.input)] == 1:
                pairs[norm.name] = maker.name
    return pairs


def scale_and_offset(norm: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return what a BatchNorm does in inference: `x * scale + offset`, both `[channels]` float64."""
    mean, variance = (
        np.float64(keras.ops.convert_to_numpy(one)) for one in (norm.moving_mean, norm.moving_variance)
    )
    scale = 1.0 / np.sqrt(variance + norm.epsilon)
    if norm.gamma is not None:
        scale = scale * keras.ops.convert_to_numpy(norm.gamma)
    offset = -mean * scale
    if norm.beta is not None:
        offset = offset + keras.ops.convert_to_numpy(norm.beta)
    return scale, offset


def _folded(layer: Any, norm: Any) -> list[np.ndarray[Any, Any]]:
    """Return the weights of a layer with a BatchNorm's scale and offset in them."""
    *kernels, last = layer.get_weights()
    scale, offset = scale_and_offset(norm)
    if layer.use_bias:
        offset, last = offset + last * scale, kernels.pop()
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    last = last * (scale.reshape(last.shape[-2:]) if depthwise else scale)
    return [*kernels, last.astype(np.float32), offset.astype(np.float32)]

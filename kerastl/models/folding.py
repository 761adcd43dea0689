"""Fold BatchNorm layers into the preceding convolutions for inference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

import keras
import numpy as np

from kerastl.models.blocks import input_tensors

TrunkPrecision = Literal["float32", "bfloat16"]
LINEAR_LAYERS = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
    keras.layers.Dense,
)


def fold_batch_norm(model: keras.Model, precision: TrunkPrecision = "float32") -> keras.Model:
    """Return an equivalent network for inference with fewer layers.

    A BatchNorm is folded if it directly follows a convolution or dense layer without activation whose output
    has no other consumer: `w' = w * gamma / sqrt(variance + epsilon)`, `b' = (b - mean) * gamma /
    sqrt(variance + epsilon) + beta` (Jacob et al. 2018, arXiv:1712.05877, section 3.2).

    Args:
        model: A flat functional model. Its weights are copied: later changes do not affect the result.
        precision: Compute precision from the first convolution on. With `bfloat16`, weights, global averages
            and outputs stay float32.

    Returns:
        A functional model for inference only, without folded BatchNorms and dropout. Layer names are kept.
    """
    pairs = find_foldable(model)
    convolutions = set(pairs.values())
    is_reduced = False

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        if operation.name in pairs or isinstance(operation, keras.layers.Dropout):
            return args[0]
        nonlocal is_reduced
        config = operation.get_config()
        # Preprocessing stays float32: bfloat16 has 8 bits for the range of 255.
        is_reduced = is_reduced or (precision == "bfloat16" and is_linear(operation))
        if is_reduced and isinstance(operation, keras.layers.Layer):
            is_pooling = isinstance(operation, keras.layers.GlobalAveragePooling2D)
            config["dtype"] = "float32" if is_pooling else "mixed_bfloat16"
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
    if is_reduced:
        outputs = keras.tree.map_structure(lambda tensor: keras.ops.cast(tensor, "float32"), folded.output)
        folded = keras.Model(folded.input, outputs, name=folded.name)
    folded.trainable = False
    for layer in dropout_layers(folded):
        layer.rate = 0.0
    return folded


def dropout_layers(model: keras.Model) -> list[Any]:
    """Return the layers that drop values or paths at random, including those inside other layers."""
    return [layer for layer in model._flatten_layers() if isinstance(getattr(layer, "rate", None), float)]


def is_linear(operation: Any) -> bool:
    """Return whether an operation is a layer of matrix products or convolutions, or contains one."""
    parts = operation._flatten_layers() if isinstance(operation, keras.layers.Layer) else ()
    return any(isinstance(part, (*LINEAR_LAYERS, keras.layers.EinsumDense)) for part in parts)


def clone_with(model: keras.Model, call: Callable[..., Any]) -> keras.Model:
    """Clone a functional model; `call(operation, *args, **kwargs)` calls each operation."""
    # Without its optimizer, which Keras would copy, too.
    bare = keras.Model(model.input, model.output, name=model.name)
    return keras.models.clone_model(bare, clone_function=lambda operation: operation, call_function=call)


def fold_for_inference(model: keras.Model) -> keras.Model:
    """Return the model with folded BatchNorms if that is safe, and otherwise the model itself.

    It is safe for flat functional networks of Keras layers that are each called once. Outputs differ by
    rounding, less than 1e-5 of the largest.

    Args:
        model: Any model. Folding copies its weights, so that it must be repeated after they change.
    """
    if not _is_flat(model) or not find_foldable(model):
        return model
    # Folding a layer that is called twice would change its other output.
    nodes = [len(layer["inbound_nodes"]) for layer in model.get_config()["layers"]]
    return fold_batch_norm(model) if max(nodes) == 1 else model


def _is_flat(model: keras.Model) -> bool:
    """Return whether a model is a graph of Keras's own layers and operations without nested models."""
    operations = getattr(model, "operations", None)
    return operations is not None and all(
        type(operation).__module__.startswith("keras.src.") and not isinstance(operation, keras.Model)
        for operation in operations
    )


def find_foldable(model: keras.Model) -> dict[str, str]:
    """Return the names of foldable BatchNorms, each with the name of the layer to fold it into."""
    consumers: Counter[int] = Counter(id(tensor) for tensor in model.outputs)
    for operation in model.operations:
        consumers.update(id(tensor) for tensor in input_tensors(operation))
    producers = {id(operation.output): operation for operation in model.operations}
    pairs = {}
    for norm in model.layers:
        if isinstance(norm, keras.layers.BatchNormalization) and norm.axis in (-1, 3):
            producer = producers.get(id(norm.input))
            if not isinstance(producer, LINEAR_LAYERS) or producer.activation is not keras.activations.linear:
                continue
            if consumers[id(norm.input)] == 1:
                pairs[norm.name] = producer.name
    return pairs


def scale_and_offset(norm: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return scale and offset of a BatchNorm in inference (`x * scale + offset`), `[channels]` float64."""
    mean, variance = (
        np.float64(keras.ops.convert_to_numpy(variable))
        for variable in (norm.moving_mean, norm.moving_variance)
    )
    scale = 1.0 / np.sqrt(variance + norm.epsilon)
    if norm.gamma is not None:
        scale = scale * keras.ops.convert_to_numpy(norm.gamma)
    offset = -mean * scale
    if norm.beta is not None:
        offset = offset + keras.ops.convert_to_numpy(norm.beta)
    return scale, offset


def _folded(layer: Any, norm: Any) -> list[np.ndarray[Any, Any]]:
    """Return the weights of a layer with the scale and offset of a BatchNorm included."""
    *kernels, last = layer.get_weights()
    scale, offset = scale_and_offset(norm)
    if layer.use_bias:
        offset, last = offset + last * scale, kernels.pop()
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    last = last * (scale.reshape(last.shape[-2:]) if depthwise else scale)
    return [*kernels, last.astype(np.float32), offset.astype(np.float32)]

"""The network that a phase runs at each step: the whole model on images, or its tail on cached activations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl import models
from kerastl.data import ImageDataset, cache_folder
from kerastl.errors import RequestError, problems_of, setting
from kerastl.recipe.phase import LayerNames, Phase
from kerastl.training.feature_cache import CachedDataset, cache_activations
from kerastl.training.freeze import (
    HEAD_INPUT,
    has_table,
    head_layers,
    list_blocks,
    named_layers,
    resolve_trainable,
)
from kerastl.training.step import PhaseData

CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)


def with_fast_backward(model: keras.Model) -> keras.Model:
    """Return an equivalent network with a faster backward pass on CPUs. It shares the variables of `model`.

    On a GPU, whose kernels differ, it returns `model`.

    Args:
        model: A flat functional model with its `trainable` flags set. The weights of BatchNorm layers with
            `trainable = False` must not change while the result is in use.
    """
    if tf.config.list_logical_devices("GPU"):
        return model
    norms = {
        convolution: norm
        for norm, convolution in models.find_foldable(model).items()
        if not model.get_layer(norm).trainable and isinstance(model.get_layer(convolution), CONVOLUTIONS)
    }
    replaced = {layer.name for layer in model.layers if layer.name in norms or _has_fast_version(layer)}
    if not replaced:
        return model
    folded = set(norms.values())

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        if operation.name in folded:
            return args[0]
        if operation.name in replaced:
            norm = norms.get(operation.name)
            operation = _Convolution(operation, norm and model.get_layer(norm))
        return operation(*args, **kwargs)

    return models.clone_with(model, call)


def _has_fast_version(layer: Any) -> bool:
    """Return whether `_Convolution` is faster than a layer."""
    is_plain = type(layer) is keras.layers.Conv2D and (_is_pointwise(layer) or _is_same(layer))
    return is_plain or type(layer) is keras.layers.SeparableConv2D


def _is_pointwise(layer: Any) -> bool:
    return layer.groups == 1 and layer.kernel_size == (1, 1)


def _is_same(layer: Any) -> bool:
    """Return whether the input gradient of a convolution is a convolution of the same kind."""
    return (
        layer.groups == 1
        and layer.strides == (1, 1)
        and layer.dilation_rate == (1, 1)
        and layer.padding == "same"
        and all(side % 2 for side in layer.kernel_size)
    )


class _Convolution(keras.layers.Layer):
    """A convolution, optionally with the frozen BatchNorm that follows it.

    Args:
        layer: The convolution, whose variables are used. Channels are last.
        norm: The frozen BatchNorm, or None.
    """

    def __init__(self, layer: Any, norm: Any) -> None:
        super().__init__(name=layer.name, dtype=layer.dtype_policy)
        self.layer, self._scale, self._offset = layer, None, None
        if norm is not None:
            scale, offset = models.scale_and_offset(norm)
            self._scale, self._offset = scale.astype(np.float32), offset.astype(np.float32)
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Return the output of the two layers in inference mode."""
        layer = self.layer
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            outputs = self._depthwise(inputs, self._scaled(layer.kernel))
        elif isinstance(layer, keras.layers.SeparableConv2D):
            intermediate = self._depthwise(inputs, tf.convert_to_tensor(layer.depthwise_kernel))
            outputs = _product(intermediate, self._scaled(layer.pointwise_kernel))
        elif _is_pointwise(layer):
            rows, columns = layer.strides
            outputs = _product(inputs[:, ::rows, ::columns], self._scaled(layer.kernel))
        elif _is_same(layer):
            outputs = _same(inputs, self._scaled(layer.kernel))
        else:
            outputs = layer.convolution_op(inputs, self._scaled(layer.kernel))
        offset = self._bias()
        return layer.activation(outputs if offset is None else tf.nn.bias_add(outputs, offset))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the output shape of the convolution."""
        return self.layer.compute_output_shape(input_shape)

    def _depthwise(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        layer = self.layer
        return keras.ops.depthwise_conv(
            inputs, kernel, strides=layer.strides, padding=layer.padding,
            data_format=layer.data_format, dilation_rate=layer.dilation_rate,
        )  # fmt: skip

    def _scaled(self, kernel: Any) -> tf.Tensor:
        kernel = tf.convert_to_tensor(kernel)
        if self._scale is None:
            return kernel
        depthwise = isinstance(self.layer, keras.layers.DepthwiseConv2D)
        scale = self._scale.reshape(kernel.shape[-2:]) if depthwise else self._scale
        return kernel * tf.cast(scale, kernel.dtype)

    def _bias(self) -> tf.Tensor | None:
        bias = tf.convert_to_tensor(self.layer.bias) if self.layer.use_bias else None
        if self._scale is None:
            return bias
        offset = tf.constant(self._offset, self.compute_dtype)
        return offset if bias is None else offset + bias * tf.cast(self._scale, bias.dtype)


def _product(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Return the convolution with a `[1, 1, in, out]` kernel as a matrix product, whose gradients are matrix products."""
    shape = tf.shape(inputs)
    rows = tf.matmul(tf.reshape(inputs, [-1, kernel.shape[2]]), kernel[0, 0])
    outputs = tf.reshape(rows, [shape[0], shape[1], shape[2], kernel.shape[3]])
    return tf.ensure_shape(outputs, [*inputs.shape[:3], kernel.shape[3]])


@tf.custom_gradient
def _same(inputs: tf.Tensor, kernel: tf.Tensor) -> Any:
    """Return the convolution with a kernel of odd size. Its input gradient is a convolution with the flipped kernel."""

    def gradients(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        flipped = tf.transpose(kernel[::-1, ::-1], [0, 1, 3, 2])
        kernel_gradient = tf.raw_ops.Conv2DBackpropFilter(
            input=inputs, filter_sizes=tf.shape(kernel), out_backprop=upstream, strides=[1, 1, 1, 1],
            padding="SAME",
        )  # fmt: skip
        return tf.nn.conv2d(upstream, flipped, 1, "SAME"), kernel_gradient

    return tf.nn.conv2d(inputs, kernel, 1, "SAME"), gradients


Source = ImageDataset | CachedDataset


def activations_folder() -> Path:
    """Return the default folder of cached activations, in the user's cache folder."""
    return cache_folder() / "activations"


@dataclass(frozen=True)
class PhaseNetwork:
    """What runs at each step of a phase.

    Args:
        model: The whole classifier, or its tail, which shares its layers.
        streams: Its inputs, images or activations, by name; at least one.
        val: Its validation inputs, or None.
        cache_report: `{"kind", "boundary", "precision", "views", "bytes"}` for the freeze report. None without a cache.
    """

    model: keras.Model
    streams: Mapping[str, Source]
    val: Source | None
    cache_report: dict[str, Any] | None = None


def build_phase_network(model: keras.Model, phase_data: PhaseData, folder: Path) -> PhaseNetwork:
    """Return the network of a phase. Computes the activations first if the phase has a cache.

    Args:
        model: A flat classifier with its `trainable` flags set for the phase.
        phase_data: The phase and its datasets.
        folder: Folder of the cache.

    Raises:
        RunFailed: If an image can no longer be read, or if the disk is full.
    """
    phase, val = phase_data.phase, phase_data.val
    if phase.cache == "none":
        # If the step changes frozen layers, none of them can be folded.
        is_foldable = has_table(model) and not phase_data.changes_frozen_layers(model)
        network = with_folded_trunk(model, phase) if is_foldable else model
        return PhaseNetwork(network, phase_data.streams, val)
    boundary = find_cached_boundary(model, phase)
    trunk, tail = split_model(model, boundary)
    datasets = [*phase_data.streams.values(), *([] if val is None else [val])]
    cached = cache_activations(
        trunk, datasets, precision=phase.cache_precision, folder=folder, trunk_precision=phase.trunk_precision,
        about={"network": network_name(model), "boundary": boundary},
    )  # fmt: skip
    cache_report = {
        "kind": phase.cache,
        "boundary": boundary,
        "precision": phase.cache_precision,
        "views": phase_data.first.views,
        "bytes": sum(of_dataset.num_bytes for of_dataset in cached),
    }
    streams = dict(zip(phase_data.streams, cached, strict=False))
    cached_val = None if val is None else cached[-1]
    return PhaseNetwork(with_fast_backward(tail), streams, cached_val, cache_report)


def find_boundary(model: keras.Model, phase: Phase) -> str | None:
    """Return the name of the last block before the trainable layers, or `pooled`. None if there is no such block.

    Args:
        model: A flat classifier.
        phase: The phase. If its BatchNorm statistics are updated, nothing is frozen.
    """
    if phase.batch_norm != "frozen":
        return None
    trainable = set(resolve_trainable(model, phase.trainable))
    if not has_table(model):
        return None if trainable or problems_of("", split_at_head, model) else HEAD_INPUT
    if not trainable:
        return HEAD_INPUT
    frozen = takewhile(lambda block: trainable.isdisjoint(block.layers), list_blocks(model))
    return next((block.name for block in reversed(list(frozen)) if block.edge), None)


def find_cached_boundary(model: keras.Model, phase: Phase) -> str:
    """Return the boundary of a phase with a cache.

    Raises:
        RequestError: If the trainable layers need another cache, or none.
    """
    if not has_table(model) and phase.trainable == "none" and phase.cache == "features":
        split_at_head(model)  # raises an error with the reason
    boundary = find_boundary(model, phase)
    if not has_table(model) and phase.cache == "boundary":
        raise RequestError(
            f"{setting('cache', 'boundary')} needs a model from build_classifier, whose blocks are known. Use {setting('cache', 'none')}."
        )
    if phase.cache == "features" and boundary != HEAD_INPUT:
        raise RequestError(
            f"{setting('cache', 'features')} stores the inputs of the head, so only the head can be trained. "
            f"Use {setting('trainable', 'none')}, or {setting('cache', 'boundary')}."
        )
    # A pattern can leave frozen layers after the first trainable one, so the cached part would be unclear.
    is_pattern = isinstance(phase.trainable, LayerNames)
    if boundary is None or is_pattern or (phase.cache == "boundary" and boundary == HEAD_INPUT):
        raise RequestError(
            f"{setting('cache', 'boundary')} needs frozen blocks followed by trainable blocks. Use {setting('trainable', {'from_block': 'NAME'})} "
            f"with one of {', '.join(block.name for block in list_blocks(model)[1:])}."
        )
    return boundary


def split_model(model: keras.Model, boundary: str) -> tuple[keras.Model, keras.Model]:
    """Return a classifier as two models that share its layers: its trunk up to the boundary, and the tail."""
    if not has_table(model):
        return split_at_head(model)
    if boundary != HEAD_INPUT:
        return models.split_at_block(model, boundary)
    trained = [layer for layer in model.layers if layer.name in models.HEAD_LAYERS and layer.weights]
    # Pooling with weights is trained with the head, so that the head reads tokens.
    pools = trained[0].name != "head"
    tensor = trained[0].input if pools else model.get_layer(HEAD_INPUT).output
    trunk = keras.Model(model.inputs[0], tensor, name="trunk")
    return trunk, keras.Model(tensor, model.outputs[0], name="tail")


def split_at_head(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Return a model of any kind as two models that share its layers: up to the input of the head, and from there.

    The first one must give the same features in each epoch: it consists of Keras's own layers, none of them random except
    dropout, which is disabled in frozen layers.

    Raises:
        RequestError: The graph of the model does not allow it. The message has the reason.
    """
    head = named_layers(model)[head_layers(model)[-1]]
    tensor, is_past_head = model.outputs[0], False
    # Dropout before the head is part of the tail.
    while not is_past_head or isinstance(tensor._keras_history.operation, keras.layers.Dropout):
        operation, node, _ = tensor._keras_history
        inputs = operation._inbound_nodes[node].input_tensors
        if len(inputs) != 1 or inputs[0] is model.inputs[0]:
            raise RequestError(
                _no_features("the layers before the head are not a separate part of the graph")
            )
        is_past_head = is_past_head or operation is head or head in _parts(operation)
        tensor = inputs[0]
    trunk = keras.Model(model.inputs[0], tensor, name="trunk")
    calls = [id(node.operation) for nodes in trunk._nodes_by_depth.values() for node in nodes]
    if len(set(calls)) < len(calls):
        raise RequestError(_no_features("a layer is called twice"))  # which folding does not support
    for part in _parts(trunk):
        if not type(part).__module__.startswith(("keras.src.", "keras_hub.src.")) or isinstance(
            part, keras.layers.Lambda
        ):
            raise RequestError(_no_features(f"the layer '{part.name}' contains custom code"))
        if part._seed_generators and not isinstance(part, keras.layers.Dropout):
            raise RequestError(_no_features(f"the layer '{part.name}' is random"))
    return trunk, keras.Model(tensor, model.outputs[0], name="tail")


def _parts(operation: Any) -> list[Any]:
    """Return an operation and all layers inside."""
    return operation._flatten_layers() if isinstance(operation, keras.layers.Layer) else []


def _no_features(reason: str) -> str:
    return (
        f"{setting('cache', 'features')} is not possible, because {reason}. Use {setting('cache', 'none')}."
    )


def network_name(model: keras.Model) -> str | None:
    """Return the name of the backbone of a classifier, or the name of any other model."""
    return models.identify_backbone(model) if has_table(model) else model.name


def with_folded_trunk(model: keras.Model, phase: Phase) -> keras.Model:
    """Return an equivalent classifier that trains faster. It shares the trainable variables of `model`.

    BatchNorm of its frozen trunk is folded where possible, and the trainable part has a fast backward pass.
    """
    boundary = find_boundary(model, phase)
    if boundary is None:
        return with_fast_backward(model)
    trunk, tail = split_model(model, boundary)
    if models.find_foldable(trunk) or phase.trunk_precision != "float32":
        trunk = models.fold_batch_norm(trunk, phase.trunk_precision)
    image = keras.Input(model.input_shape[1:], name="image")
    return keras.Model(image, with_fast_backward(tail)(trunk(image)), name=model.name)

"""What a phase runs at each step: the whole model on images, or its last part on what the first part made once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl.data import ImageDataset, cache_folder
from kerastl.errors import RequestError
from kerastl.models import blocks_of, cut, fold, foldable, network_name, rebuilt, scale_and_offset
from kerastl.recipe.phase import LayerNames, Phase
from kerastl.training.feature_cache import CachedDataset, cache_activations
from kerastl.training.freeze import resolve_trainable
from kerastl.training.step import PhaseData

CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)


def with_fast_backward(model: keras.Model) -> keras.Model:
    """Return a network that learns what `model` does, from layers that they share.

    Measured on CPUs; where there is a GPU, its own kernels have their own ways, and `model` is returned as it is.

    Args:
        model: functional and flat, its flags set; a BatchNorm with `trainable = False` must keep its weights as long as
            the result is used.
    """
    if tf.config.list_logical_devices("GPU"):
        return model
    norms = {
        convolution: norm
        for norm, convolution in foldable(model).items()
        if not model.get_layer(norm).trainable and isinstance(model.get_layer(convolution), CONVOLUTIONS)
    }
    replaced = {layer.name for layer in model.layers if layer.name in norms or _is_faster(layer)}
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

    return rebuilt(model, call)


def _is_faster(layer: Any) -> bool:
    """Tell whether `_Convolution` has a faster way for a layer."""
    if type(layer) is keras.layers.SeparableConv2D:
        return True
    plain = type(layer) is keras.layers.Conv2D and layer.groups == 1
    return plain and (_is_pointwise(layer) or _is_same(layer))


def _is_pointwise(layer: Any) -> bool:
    return layer.kernel_size == (1, 1)


def _is_same(layer: Any) -> bool:
    """Tell whether a convolution's gradient for what it reads is a convolution of the same kind."""
    return (
        layer.strides == (1, 1)
        and layer.dilation_rate == (1, 1)
        and layer.padding == "same"
        and all(side % 2 for side in layer.kernel_size)
    )


class _Convolution(keras.layers.Layer):
    """A convolution, and the frozen BatchNorm behind it, where there is one.

    Args:
        layer: whose variables are used; channels last.
        norm: frozen; None: there is none.
    """

    def __init__(self, layer: Any, norm: Any) -> None:
        super().__init__(name=layer.name, dtype=layer.dtype_policy)
        self.layer, self._scale, self._offset = layer, None, None
        if norm is not None:
            scale, offset = scale_and_offset(norm)
            self._scale, self._offset = scale.astype(np.float32), offset.astype(np.float32)
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Return what the two layers give in inference."""
        layer = self.layer
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            outputs = self._depthwise(inputs, self._scaled(layer.kernel))
        elif isinstance(layer, keras.layers.SeparableConv2D):
            between = self._depthwise(inputs, tf.convert_to_tensor(layer.depthwise_kernel))
            outputs = _product(between, self._scaled(layer.pointwise_kernel))
        elif layer.groups == 1 and _is_pointwise(layer):
            down, across = layer.strides
            outputs = _product(inputs[:, ::down, ::across], self._scaled(layer.kernel))
        elif layer.groups == 1 and _is_same(layer):
            outputs = _same(inputs, self._scaled(layer.kernel))
        else:
            outputs = layer.convolution_op(inputs, self._scaled(layer.kernel))
        offset = self._bias()
        return layer.activation(outputs if offset is None else tf.nn.bias_add(outputs, offset))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape that the convolution gives."""
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
    """Return a convolution by a `[1, 1, in, out]` kernel: a matrix product, as are its gradients."""
    shape = tf.shape(inputs)
    rows = tf.matmul(tf.reshape(inputs, [-1, kernel.shape[2]]), kernel[0, 0])
    outputs = tf.reshape(rows, [shape[0], shape[1], shape[2], kernel.shape[3]])
    return tf.ensure_shape(outputs, [*inputs.shape[:3], kernel.shape[3]])


@tf.custom_gradient
def _same(inputs: tf.Tensor, kernel: tf.Tensor) -> Any:
    """Return a convolution by a kernel of odd sides; its gradient for `inputs` is one by the turned kernel."""

    def gradients(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        turned = tf.transpose(kernel[::-1, ::-1], [0, 1, 3, 2])
        of_kernel = tf.raw_ops.Conv2DBackpropFilter(
            input=inputs, filter_sizes=tf.shape(kernel), out_backprop=upstream, strides=[1, 1, 1, 1],
            padding="SAME",
        )  # fmt: skip
        return tf.nn.conv2d(upstream, turned, 1, "SAME"), of_kernel

    return tf.nn.conv2d(inputs, kernel, 1, "SAME"), gradients


Source = ImageDataset | CachedDataset


def activations_folder() -> Path:
    """Return the place for activations in the user's cache folder."""
    return cache_folder() / "activations"


@dataclass(frozen=True)
class PhaseNetwork:
    """What runs at each step of a phase.

    Args:
        model: the whole classifier, or its last part, which shares its layers.
        streams, val: what it reads: images, or activations; of streams one at least.
        told: what is kept on disk, for the proof: `{"kind", "behind", "precision", "views", "bytes"}`; None: nothing.
    """

    model: keras.Model
    streams: Mapping[str, Source]
    val: Source | None
    told: dict[str, Any] | None = None


def build_phase_network(model: keras.Model, phase_data: PhaseData, folder: Path) -> PhaseNetwork:
    """Return what a phase runs; where it asks for a cache, that is filled first.

    Args:
        model: a flat classifier; its flags are set for the phase.
        lesson: its phase names the cache, or none.
        folder: of the cache.

    Raises:
        RunFailed: an image can no longer be read, or the disk is full.
    """
    phase, val = phase_data.phase, phase_data.val
    if phase.cache == "none":
        return on_images(model, phase_data)
    parts = part(model, find_cached_trunk(model, phase))
    about = {"network": network_name(model), "boundary": parts.behind}
    sources = [*phase_data.streams.values(), *([] if val is None else [val])]
    kept = cache_activations(
        parts.trunk, sources, precision=phase.cache_precision, folder=folder,
        trunk_precision=phase.trunk_precision, about=about,
    )  # fmt: skip
    told = {
        "kind": phase.cache,
        "boundary": parts.behind,
        "precision": phase.cache_precision,
        "views": phase_data.first.views,
        "bytes": sum(one.num_bytes for one in kept),
    }
    cached = [CachedDataset(one, its) for one, its in zip(sources, kept, strict=True)]
    streams = dict(zip(phase_data.streams, cached, strict=False))
    cached_val = None if val is None else cached[-1]
    return PhaseNetwork(with_fast_backward(parts.tail), streams, cached_val, told)


def on_images(model: keras.Model, phase_data: PhaseData) -> PhaseNetwork:
    """Return what a phase without a cache runs."""
    # Where the step moves what is frozen, nothing of it may be folded.
    moves = phase_data.changes_frozen_layers(model)
    return PhaseNetwork(model if moves else with_folded_trunk(model, phase_data.phase), phase_data.streams, phase_data.val)


@dataclass(frozen=True)
class FrozenTrunk:
    """The first part of a classifier, all of it frozen.

    Args:
        behind: the block or layer that it ends with.
        tensors: what it hands on.
    """

    behind: str
    tensors: Sequence[keras.KerasTensor]


@dataclass(frozen=True)
class Parts:
    """A classifier in two parts that share its layers.

    Args:
        behind: as in `FrozenTrunk`.
        trunk: the front.
        tail: the rest.
    """

    behind: str
    trunk: keras.Model
    tail: keras.Model


def find_frozen_trunk(model: keras.Model, phase: Phase) -> FrozenTrunk | None:
    """Return what stands before the first block in which something learns; None: nothing does.

    Args:
        model: a flat classifier.
        phase: says which layers learn; where BatchNorm's statistics follow the images, nothing is frozen.
    """
    if phase.batch_norm != "frozen":
        return None
    chosen = set(resolve_trainable(model, phase.trainable))
    if not chosen:
        return FrozenTrunk("pooled", [model.get_layer("pooled").output])
    blocks = blocks_of(model)
    first = next(at for at, block in enumerate(blocks) if chosen & set(block.layers))
    if not first:
        return None
    operations = {operation.name: operation for operation in model.operations}
    last = blocks[first - 1]
    return FrozenTrunk(last.name, [operations[name].output for name in last.edge])


def find_cached_trunk(model: keras.Model, phase: Phase) -> FrozenTrunk:
    """Return the frozen front of a phase with a cache.

    Raises:
        RequestError: another cache fits what learns, or none does.
    """
    front = find_frozen_trunk(model, phase)
    if phase.cache == "features" and (front is None or front.behind != "pooled"):
        raise RequestError(
            "cache: features keeps what the head reads, so nothing else may learn. "
            "Write trainable: none, or cache: boundary."
        )
    # A pattern may leave layers frozen behind the first that learns: nobody could tell what was kept.
    holes = isinstance(phase.trainable, LayerNames)
    if front is None or holes or (phase.cache == "boundary" and front.behind == "pooled"):
        raise RequestError(
            "cache: boundary needs frozen blocks, and behind them blocks that learn. "
            f"Write trainable: {{from_block: NAME}}, of: {', '.join(block.name for block in blocks_of(model)[1:])}."
        )
    return front


def part(model: keras.Model, front: FrozenTrunk) -> Parts:
    """Return a classifier cut behind its front."""
    if front.behind != "pooled":
        return Parts(front.behind, *cut(model, front.behind))
    (pooled,) = front.tensors
    trunk = keras.Model(model.inputs[0], pooled, name="trunk")
    return Parts("pooled", trunk, keras.Model(pooled, model.outputs[0], name="tail"))


def with_folded_trunk(model: keras.Model, phase: Phase) -> keras.Model:
    """Return a classifier that learns what `model` does in less time, from the same variables.

    Its frozen front has no BatchNorm where that can be, and what learns has a cheap backward pass.
    """
    front = find_frozen_trunk(model, phase)
    if front is None:
        return with_fast_backward(model)
    parts = part(model, front)
    trunk = parts.trunk
    if foldable(trunk) or phase.trunk_precision != "float32":
        trunk = fold(trunk, phase.trunk_precision)
    image = keras.Input(model.input_shape[1:], name="image")
    return keras.Model(image, with_fast_backward(parts.tail)(trunk(image)), name=model.name)


def choose_cache(phase: Phase, trains: Sequence[ImageDataset]) -> Phase:
    """Return a phase whose `cache: auto` is decided: features where the head alone learns and nothing is lost by it.

    Args:
        phase: of the recipe.
        trains: all images that it learns from.
    """
    if phase.cache != "auto":
        return phase
    alone = phase.trainable == "none" and phase.batch_norm == "frozen"
    fresh = any(one.mixes or (one.augmented and not one.repeats) for one in trains)
    return phase.model_copy(update={"cache": "features" if alone and not fresh else "none"})

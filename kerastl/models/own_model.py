"""A model of the user as a backbone: a `.keras` file, or a `keras.Model` in Python."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from kerastl.errors import RequestError, first_line, pluralize, quote
from kerastl.image_size import Size
from kerastl.models.backbone import LoadedBackbone
from kerastl.models.expand import custom_classes, expand
from kerastl.models.functional import as_functional, built_shape, is_functional
from kerastl.models.hub import image_network
from kerastl.models.hub_presets import (
    ARCHITECTURES,
    DEFAULT_SIDE_PX,
    MINUS_ONE_TO_ONE,
    RESCALING,
    UNSUPPORTED,
    are_trained,
    complete_scaling,
    prefix_tokens,
    unknown_range,
)


def load_model(
    model: keras.Model,
    size: Size | None,
    *,
    name: str,
    scale: Any = None,
    offset: Any = None,
    has_weights: bool = True,
    seed: int | None = None,
) -> LoadedBackbone:
    """Return the part of a model before its classification head as a backbone. Its weights are copied if possible.

    Args:
        model: A backbone or a classifier, whose last dense layer and everything after it is left out.
        size: Height and width of the images in pixels. None means those of the model.
        name: Name of the model in messages.
        scale, offset: The model takes `pixels * scale + offset`. None means that it rescales pixels in [0, 255] itself, or
            has the image converter of KerasHub.
        has_weights: Whether to keep its weights. If not, new random ones are drawn.
        seed: Seed of random weights; None uses Keras's global generator.

    Raises:
        RequestError: It has several inputs or outputs, does not take RGB images, does not return feature maps, tokens or
            features, or contains a `Lambda` layer; it is trained, but its pixel range is unknown; or it cannot be rebuilt.
    """
    kind = type(model).__name__
    size = size or _own_size(model)
    if is_functional(model) and (code := _lambda_name(model)):
        raise RequestError(
            f"{name} contains the Lambda layer '{code}', which cannot be copied, because its code is not in the config of the "
            "model. Replace it with a Keras layer, such as keras.layers.Rescaling(1 / 127.5, offset=-1), or with a custom layer."
        )
    copy, shared = _copy(model, has_weights=has_weights, seed=seed), ""
    network = _as_network(copy, size, name)
    converter = getattr(getattr(model, "preprocessor", None), "image_converter", None)
    if converter is not None and scale is None and offset is None:
        scaling, note = complete_scaling(converter.scale, converter.offset), ""
    else:
        scaling, note = _choose_scaling(network, scale, offset, name)
    tokens = prefix_tokens(kind, model.get_config()) if kind in ARCHITECTURES else None
    try:
        flat = expand(network, size=size, scale=scaling[0], offset=scaling[1], name=name)
    except RequestError as error:
        if type(model).__module__.startswith("keras_hub.") and kind not in ARCHITECTURES:
            raise RequestError(f"{name} is {quote(kind)}, {UNSUPPORTED}") from error
        if not any(isinstance(layer, keras.Model) and not is_functional(layer) for layer in network.layers):
            raise
        flat = _on_pixels(network, size, scaling, name)  # a subclassed model, which Keras cannot rebuild
        if copy is model:
            shared = (
                f"The classifier shares the weights of {name}, because its config does not rebuild it. Training changes both, "
                f"and every other classifier built from it. To prevent this, build a new {kind} for each classifier, or add get_config."
            )
    flat, head_note = _without_head(flat, name)
    return LoadedBackbone(flat, None, tuple(text for text in (note, head_note, shared) if text), tokens)


def _lambda_name(model: keras.Model) -> str | None:
    """Return the name of a `Lambda` layer in the graph of a functional model, or None."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Lambda):
            return str(layer.name)
        if isinstance(layer, keras.Model) and is_functional(layer) and (name := _lambda_name(layer)):
            return name
    return None


def _own_size(model: keras.Model) -> Size:
    """Return the image size that a model is built for."""
    shape = model.inputs[0].shape if is_functional(model) else built_shape(model)
    sides = tuple(shape)[1:3]
    is_known = len(sides) == 2 and None not in sides
    return (int(sides[0]), int(sides[1])) if is_known else (DEFAULT_SIDE_PX, DEFAULT_SIDE_PX)


def _copy(model: keras.Model, *, has_weights: bool, seed: int | None) -> keras.Model:
    """Return a copy of a model, or the model itself if its config does not describe it."""
    if seed is not None:
        keras.utils.set_random_seed(seed)
    try:
        with keras.saving.custom_object_scope(custom_classes(model)):
            is_hub = (
                type(model).__name__ in ARCHITECTURES
            )  # its name would be a prefix of the names of some layers
            copy = type(model).from_config(model.get_config() | ({"name": None} if is_hub else {}))
        if has_weights:
            copy.set_weights(model.get_weights())
    except Exception:  # the classes of the user can raise anything
        return model
    return copy


def _as_network(model: keras.Model, size: Size, name: str) -> keras.Model:
    """Return a functional model with one input and one output tensor."""
    if type(model).__name__ in ARCHITECTURES:
        return image_network(model, ARCHITECTURES[type(model).__name__])
    try:
        network = model if is_functional(model) else as_functional(model, size)
    except RequestError as error:
        raise RequestError(f"{name} {error}") from error
    inputs, outputs = keras.tree.flatten(network.inputs), keras.tree.flatten(network.outputs)
    if len(inputs) != 1 or len(outputs) != 1:
        raise RequestError(
            f"{name} has {pluralize(len(inputs), 'input')} and {pluralize(len(outputs), 'output')}, but a backbone has one of each. Use "
            "keras.Model(model.inputs[0], FEATURES)."
        )
    if len(inputs[0].shape) != 4 or inputs[0].shape[-1] != 3:
        raise RequestError(
            f"{name} takes {list(inputs[0].shape)}, but a backbone takes RGB images [None, height, width, 3]."
        )
    if len(outputs[0].shape) not in (2, 3, 4) or None in outputs[0].shape[-1:]:
        raise RequestError(
            f"{name} returns {list(outputs[0].shape)}, but a backbone returns feature maps [None, height, width, channels], "
            "tokens [None, tokens, channels] or features [None, channels]."
        )
    return keras.Model(inputs[0], outputs[0], name=network.name)


def _without_head(network: keras.Model, name: str) -> tuple[keras.Model, str]:
    """Return a flat model without its last dense layer, if it returns one vector per image, and a note."""
    tensor = network.outputs[0]
    while len(network.output_shape) == 2:
        operation, node, _ = tensor._keras_history
        inputs = operation._inbound_nodes[node].input_tensors
        if len(inputs) != 1:
            break
        tensor = inputs[0]
        if isinstance(operation, keras.layers.Dense):
            note = f"{name}: the last dense layer, '{operation.name}', is replaced by a new head."
            return keras.Model(network.inputs[0], tensor, name=network.name), note
        if getattr(operation, "weights", None):
            break
    return network, ""


def _choose_scaling(network: keras.Model, scale: Any, offset: Any, name: str) -> tuple[tuple[Any, Any], str]:
    """Return scale and offset of the pixels, and a note if they are a guess or are applied in addition to the model's own.

    Raises:
        RequestError: The model has no preprocessing, and its weights are trained.
    """
    if scale is not None or offset is not None:
        scaling = complete_scaling(scale, offset)
        is_twice = scaling != (1.0, 0.0) and _rescales(network)
        note = f"{name} rescales pixels itself. scale and offset are applied before its own rescaling. Remove them if the model takes pixels in [0, 255]."
        return scaling, note if is_twice else ""
    if _rescales(network):
        return (1.0, 0.0), ""
    vectors = [
        np.asarray(weight)
        for weight in network.weights
        if len(weight.shape) == 1 and "seed" not in weight.path
    ]
    if are_trained(vectors):
        raise unknown_range(name)
    return MINUS_ONE_TO_ONE, f"{name} has initial weights and no preprocessing: pixels are scaled to [-1, 1]."


def _rescales(network: Any) -> bool:
    """Return whether a model changes pixel values before its first layer with weights."""
    graph = network._functional if isinstance(network, keras.Sequential) else network
    for operation in graph.operations:
        kind = type(operation).__name__
        if kind in RESCALING:
            return True
        if isinstance(operation, keras.Model):
            if not is_functional(operation):
                return any(type(part).__name__ in RESCALING for part in operation._flatten_layers())
            if _rescales(operation):
                return True
        if getattr(operation, "weights", None):
            return False
    return False


def _on_pixels(network: keras.Model, size: Size, scaling: tuple[Any, Any], name: str) -> keras.Model:
    """Return a model on `image` and `pixels` that calls the layers of another one."""
    image = keras.Input((*size, 3), name="image")
    pixels = keras.layers.Rescaling(*scaling, name="pixels", dtype="float32")(image)
    try:
        return keras.Model(image, network(pixels), name=name)
    except Exception as error:
        raise RequestError(f"{name} cannot be called on images: {first_line(error)}") from error

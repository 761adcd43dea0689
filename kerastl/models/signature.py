"""The signature of a classifier: the images that it takes and the classes whose logits it returns.

Class names, window and resize rule are stored in the config of the last layer without weights, so that every Keras file keeps
them and loads without custom objects. Keras offers one place for text there: the keys of a dtype policy map, which
select layers by their path. The key of the signature matches no path, so it has no effect on the model. It names the
output layer, so that it does not apply to a model in which that layer was replaced.
"""

from __future__ import annotations

import json
import re
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import keras
import numpy as np
import tensorflow as tf

from kerastl.errors import Problem, RequestError, raise_problems
from kerastl.image_size import Resize, Size, as_size, format_size, plain_size
from kerastl.models.functional import as_functional
from kerastl.options import StrictModel, describe_value

PREFIX = "kerastl:"
LINEAR_OUTPUTS = (keras.layers.Dense, keras.layers.Conv2D, keras.layers.EinsumDense)
UNCHANGED = ("Identity", "Cast", "Dropout", "Reshape", "Flatten", "Squeeze", "Activation", "Pad")
"""Operations that keep probabilities as they are; an activation if it is linear."""
NEEDS_LOGITS = "but logits are needed, because the softmax is applied in the loss, the scores and the export."
LINEAR_OPERATIONS = ("MatMul", "BatchMatMulV2", "BiasAdd", "AddV2", "Conv2D", "Einsum", "XlaDotV2")
PROBE_SEED = 7
_signatures: weakref.WeakKeyDictionary[Any, dict[str, Any]] = weakref.WeakKeyDictionary()
"""The signatures of models without a layer that can store them, e.g. subclassed ones."""


class Signature(StrictModel):
    """What is stored in a model.

    Args:
        layer: Name of the output layer.
        class_names: Class names in the order of the logits.
        window: (low, high) in stored values of 16-bit images; null if the training images have 8 bits.
        resize: How the training images were resized.
    """

    layer: str
    class_names: tuple[str, ...] = ()
    window: tuple[float, float] | None = None
    resize: Resize = "stretch"


def read_signature(model: keras.Model) -> dict[str, Any]:
    """Return the `class_names`, `window` and `resize` that are stored in a model, as far as they are stored."""
    output, holder = _output_and_holder(model)
    if holder is None:
        return dict(_signatures.get(model, {}))
    for key in _policy_map(holder):
        with suppress(ValueError, RecursionError):  # a file can be damaged or malicious
            stored, errors = Signature.read(json.loads(unquote(key.removeprefix(PREFIX))))
            if key.startswith(PREFIX) and not errors and stored.layer == output.name:
                return {name: getattr(stored, name) for name in stored.model_fields_set - {"layer"}}
    return {}


def write_signature(model: keras.Model, **values: Any) -> None:
    """Store `class_names`, `window` or `resize` in a model, in addition to what it stores. Files of subclassed models lack them."""
    output, holder = _output_and_holder(model)
    if holder is None:
        _signatures[model] = read_signature(model) | values
    else:
        policy = holder.dtype_policy
        others = {key: item for key, item in _policy_map(holder).items() if not key.startswith(PREFIX)}
        default = getattr(policy, "default_policy", policy)
        key = PREFIX + quote(json.dumps({"layer": output.name, **read_signature(model), **values}), safe="")
        holder._dtype_policy = keras.dtype_policies.DTypePolicyMap(default, {**others, key: default})


def _policy_map(layer: Any) -> dict[str, Any]:
    policy = getattr(layer, "dtype_policy", None)
    return dict(policy) if isinstance(policy, keras.dtype_policies.DTypePolicyMap) else {}


def _output_and_holder(model: keras.Model) -> tuple[Any, Any]:
    """Return the operation that computes the output, and the layer that stores the signature; None if there is none.

    A policy map in a layer that Keras can quantize would make `model.quantize` fail.
    """
    operations = list(_backward(model))
    layers = [operation for operation in operations if isinstance(operation, keras.layers.Layer)]
    layers = [layer for layer in layers if not isinstance(layer, keras.layers.InputLayer)]
    holder = next((layer for layer in layers if not layer.weights), next(iter(layers), None))
    return next(iter(operations), None), holder


def _backward(model: keras.Model) -> Iterator[Any]:
    """Yield the operations from the output back to the first one without exactly one input, nested models expanded."""
    tensor = model.outputs[0] if getattr(model, "outputs", None) else None
    while tensor is not None:
        operation, node, _ = tensor._keras_history
        if isinstance(operation, keras.Model) and getattr(operation, "outputs", None):
            yield from _backward(operation)
        else:
            yield operation
        inputs = operation._inbound_nodes[node].arguments.keras_tensors
        tensor = inputs[0] if len(inputs) == 1 else None


def check_classifier(
    model: Any,
    *,
    class_names: Sequence[str] | None = None,
    image_size_px: int | Size | None = None,
    is_probed: bool = False,
) -> keras.Model:
    """Check that a model takes RGB images of one size, returns logits, and has the given signature.

    Args:
        model: Any object. A single logit is that of the second of two classes.
        class_names: Class names of the data or of the export. None if they are not known.
        image_size_px: Side length or (height, width) of the images. None accepts any.
        is_probed: Whether to run the model on a few images, to check its outputs.

    Returns:
        The model as a functional model with one logit per class (see `as_functional`).

    Raises:
        Problems: Everything that is wrong, each with both values and a fix.
    """
    messages, network = [], model
    size = None if image_size_px is None else as_size(image_size_px)
    if not isinstance(model, keras.Model):
        hint = " Load it first: keras.saving.load_model(PATH)." if isinstance(model, str | Path) else ""
        messages = [f"must be a keras.Model, got {describe_value(model)}.{hint}"]
    else:
        try:
            network = as_functional(model, size)
        except RequestError as error:
            messages = [str(error)]
    messages = (
        messages
        or list(_form_problems(network))
        or [
            *_signature_problems(network, read_signature(model), class_names, size),
            *_probability_problems(network),
        ]
    )
    if is_probed and not messages:
        noise = np.random.default_rng(PROBE_SEED).uniform(0, 255, (8, *network.inputs[0].shape[1:]))
        noise = noise.astype(np.float32)
        first, again = (np.asarray(network(noise, training=False), np.float64) for _ in range(2))
        messages = output_messages(network, first, again)
        alone = np.asarray(network(noise[:1], training=False), np.float64)
        if not messages and np.abs(alone - first[:1]).max() > 0.02 * np.abs(first).max():
            messages = [
                "returns different outputs for an image alone and in a batch. Remove the operation that mixes images."
            ]
    raise_problems("The model", [Problem("", message) for message in messages])
    return network


def _form_problems(model: Any) -> Iterator[str]:
    """Yield an error message if a model does not map one tensor to one tensor, with code that selects both."""
    inputs, outputs = model.input, model.output
    if isinstance(inputs, Mapping | list | tuple):
        keys = list(inputs) if isinstance(inputs, Mapping) else range(len(inputs))
        given = ", ".join(f"{key!r}: {'...' if index else 'image'}" for index, key in enumerate(keys))
        given = f"{{{given}}}" if isinstance(inputs, Mapping) else f"[image{', ...' * (len(inputs) - 1)}]"
        yield (
            f"must have one input tensor, the images, but has {list(keys)}. Set the others: image = "
            f"keras.Input((64, 64, 3)); model = keras.Model(image, model({given}))"
        )
    if isinstance(outputs, Mapping | list | tuple):
        keys = list(outputs) if isinstance(outputs, Mapping) else range(len(outputs))
        yield (
            f"must have one output tensor, the logits, but has {list(keys)}. Select one: image = "
            f"keras.Input((64, 64, 3)); model = keras.Model(image, model(image)[{keys[0]!r}])"
        )


def _signature_problems(
    model: keras.Model,
    signature: Mapping[str, Any],
    class_names: Sequence[str] | None,
    image_size_px: Size | None,
) -> Iterator[str]:
    """Yield how input, outputs and class names differ from those of the data."""
    batch, *shape = model.inputs[0].shape
    size = tuple(shape[:2])
    outputs = tuple(model.outputs[0].shape)
    known = list(signature.get("class_names", ()))
    names = known if class_names is None else list(class_names)
    if batch is not None or None in shape or len(shape) != 3 or shape[2] != 3:
        yield f"must take [None, height, width, 3], got {[batch, *shape]}. {_input_remedy(shape)}"
    elif image_size_px not in (None, size):
        yield (
            f"takes images of {format_size(size)}, but the data has images of {format_size(image_size_px)}. "
            f"Use image_size_px={plain_size(size)}."
        )
    if len(outputs) != 2 or outputs[1] is None:
        yield f"must return logits [batch, classes], got {list(outputs)}. Pool and flatten before the last layer."
    elif names and outputs[1] != len(names):
        yield f"has {outputs[1]} outputs, but there are {len(names)} classes: {names}."
    if known and known != names:
        # Images of a class that the model lacks have no index.
        remedy = f" Write class_names={known}." if set(names) <= set(known) else ""
        yield f"has the classes {known}, but those of the data are {names}. They must be equal and in the same order.{remedy}"


def _input_remedy(sizes: Sequence[int | None]) -> str:
    if len(sizes) == 3 and sizes[-1] == 1:
        return (
            f"For gray images: image = keras.Input(({sizes[0]}, {sizes[1]}, 3)); model = keras.Model(image, "
            "model(keras.ops.image.rgb_to_grayscale(image)))"
        )
    return "Start it with keras.Input((64, 64, 3))."


def returns_logits(model: keras.Model) -> bool:
    """Return whether the last layer is linear, so that its outputs cannot be probabilities."""
    last = _last_operation(model)
    return isinstance(last, LINEAR_OUTPUTS) and _activation(last) == "linear"


def _last_operation(model: keras.Model) -> Any:
    return next((operation for operation in _backward(model) if not _is_unchanged(operation)), None)


def _is_keras(operation: Any) -> bool:
    """Return whether an operation is one of Keras's own, except a `Lambda`, so that its type defines what it computes."""
    return type(operation).__module__.startswith("keras.src.") and not isinstance(
        operation, keras.layers.Lambda
    )


def _last_graph_operation(model: keras.Model) -> str:
    """Return the type of the TensorFlow operation that computes the output of a functional model."""
    images = tf.TensorSpec([None, *model.inputs[0].shape[1:]], tf.float32)
    forward = tf.function(lambda images: model(images, training=False), autograph=False)
    operation = forward.get_concrete_function(images).outputs[0].op
    while operation.type in ("Identity", "Cast", "Reshape", "Squeeze", "Pad", "PadV2"):
        operation = operation.inputs[0].op
    return str(operation.type)


def output_messages(model: keras.Model, outputs: Any, repeated: Any) -> list[str]:
    """Return what is wrong with outputs `[n, classes]` of a model and with those of a second call for the same images.

    They must be finite and equal, and must not look like probabilities: positive, of sum 1 or all below 1.
    """
    values, again = np.asarray(outputs, np.float64), np.asarray(repeated, np.float64)
    if not np.isfinite(values).all():
        return ["returns NaN or infinity. Its weights may contain NaN: load or train them again."]
    if not np.allclose(values, again, rtol=1e-4, atol=1e-6):
        return [
            "returns different outputs for the same images, because a layer is random in inference mode. Remove it."
        ]
    if (values[:, :1] == 0).all():
        values = values[:, 1:]  # a single logit, see `as_functional`
    if not values.size or values.min() < 0 or returns_logits(model):
        return []
    # bfloat16 has 8 bits.
    is_sum_1 = values.shape[1] > 1 and np.abs(values.sum(-1) - 1).max() <= 0.02
    is_below_1 = 0 < values.min() <= values.max() < 1
    if not is_sum_1 and not (is_below_1 and _last_graph_operation(model) not in LINEAR_OPERATIONS):
        return []
    return [f"returns probabilities: all outputs are from 0 to 1, {NEEDS_LOGITS}"]


def _probability_problems(model: keras.Model) -> Iterator[str]:
    """Yield an error message if a model ends in a softmax or sigmoid."""
    for operation in _backward(model):
        kind = f"{type(operation).__name__} {_activation(operation)}".lower()
        if re.search("softmax|sigmoid|sparsemax", kind) and "log" not in kind:
            name = f"model.get_layer({operation.name!r})" if operation in model.layers else "LAYER"
            fix = f"Set its activation: {name}.activation = keras.activations.linear"
            if not getattr(operation, "weights", None):
                fix = f"Return its input instead: keras.Model(model.inputs[0], {name}.input)"
            yield f"ends in {kind.strip()} ({operation.name}) and returns probabilities, {NEEDS_LOGITS} {fix}"
        if not _is_unchanged(operation):
            break
    if not _is_keras(_last_operation(model)) and _last_graph_operation(model) in ("Softmax", "Sigmoid"):
        yield f"returns probabilities, {NEEDS_LOGITS} Remove the softmax or sigmoid at its end."


def _is_unchanged(operation: Any) -> bool:
    return type(operation).__name__ in UNCHANGED and _activation(operation) in ("", "linear")


def _activation(operation: Any) -> str:
    activation = getattr(operation, "activation", None)
    return "" if activation is None else getattr(activation, "__name__", type(activation).__name__)

"""Copy any functional model onto an input `image`, with nested models and layers that contain layers expanded.

Freezing by block, caches and folding need the layers and the tensors between them. KerasHub keeps both inside layers: an
encoder contains all transformer layers, a block of a convolutional network its convolutions and BatchNorm layers.
"""

from __future__ import annotations

import inspect
import json
from collections import Counter
from typing import Any

import keras
import numpy as np

from kerastl.errors import RequestError, first_line
from kerastl.image_size import Size, format_size
from kerastl.models.backbone import HEAD_LAYERS
from kerastl.models.flatten import counted_names

ADDED_LAYERS = ("image", "pixels", *HEAD_LAYERS)
MAX_ERROR = 1e-4
"""Maximum difference from the source, relative to its largest output. The same operations run in the same order."""
PROBE_SEED = 7


def expand(source: keras.Model, *, size: Size, scale: Any, offset: Any, name: str) -> keras.Model:
    """Return a flat copy of a model on an input `image` and a layer `pixels`. All of its layers are trainable.

    The copy is built from its own config, as it is when a file is loaded, and computes what the source computes.

    Args:
        source: A functional model with one input `[height, width, 3]` and one output tensor. Its layers are used to
            build the copy: do not use it afterwards.
        size: Height and width of the images, in pixels.
        scale, offset: `pixels` computes `image * scale + offset`; a number, or one for each channel.
        name: Name of the new model.

    Raises:
        RequestError: A layer cannot be restored from its config, or does not accept images of this size.
    """
    try:
        expander = _Expander()
        flat = expander.on_image(source, size, scale, offset)
        while expander.is_expanded:
            flat = expander.on_image(flat, size)
        copy = _rebuild(flat, name)
        if _correct_shapes(copy):
            copy = _rebuild(flat, name)
        copy.set_weights(flat.get_weights())
        error = _difference(flat, copy, size)
    except Exception as failure:  # layers of other packages can raise anything
        raise RequestError(
            f"{name} cannot be rebuilt for images of {format_size(size)}: {first_line(failure)}"
        ) from failure
    if not error <= MAX_ERROR:
        raise RequestError(
            f"{name} returns different features when it is rebuilt from its config (relative difference {error:.2g}), so a "
            "saved classifier would be wrong. One of its layers does not store all of its settings."
        )
    copy.trainable = True
    return copy


def _rebuild(model: keras.Model, name: str) -> keras.Model:
    with keras.saving.custom_object_scope(custom_classes(model)):
        return keras.Model.from_config(_with_stable_names({**model.get_config(), "name": name}))


def _correct_shapes(model: keras.Model) -> bool:
    """Return whether a layer states a wrong output shape. If so, let Keras infer those of its class from `call`.

    The vision embedding of SigLIP (KerasHub 0.32) counts a class token that it does not have.
    """
    layers = [layer for layer in model.layers if _is_custom(layer)]
    stated = [keras.tree.flatten(layer.output) for layer in layers]
    images = np.zeros((1, *model.inputs[0].shape[1:]), np.float32)
    computed = keras.Model(model.inputs[0], stated)(images, training=False) if layers else ()
    is_wrong = False
    for layer, tensors, values in zip(layers, stated, computed, strict=True):
        if any(tensor.shape[1:] != value.shape[1:] for tensor, value in zip(tensors, values, strict=True)):
            kind: Any = type(layer)
            kind.compute_output_shape, is_wrong = keras.Layer.compute_output_shape, True
    return is_wrong


def _difference(flat: keras.Model, copy: keras.Model, size: Size) -> float:
    """Return the largest difference of the outputs for random pixels, relative to the largest output."""
    images = np.random.default_rng(PROBE_SEED).uniform(0, 255, (1, *size, 3)).astype(np.float32)
    expected, computed = (np.asarray(model(images, training=False), np.float64) for model in (flat, copy))
    return float(np.abs(expected - computed).max() / (np.abs(expected).max() or 1.0))


class _Expander:
    """Calls the operations of a graph one by one, and those inside nested models and containers.

    Attributes:
        is_expanded: Whether something was expanded in the last graph, which may contain more.
    """

    def __init__(self) -> None:
        self.is_expanded = False
        self._names: dict[str, Any] = {}
        self._opaque: list[Any] = []
        self._called: list[Any] = []

    def on_image(self, model: Any, size: Size, *scaling: Any) -> keras.Model:
        """Return a model as a graph on `image`, followed by `pixels` if a scale and an offset are given."""
        self.is_expanded, self._called = False, []
        image = tensor = keras.Input((*size, 3), name="image")
        if scaling:
            self._names["pixels"] = keras.layers.Rescaling(*scaling, name="pixels", dtype="float32")
            tensor = self._names["pixels"](image)
        outputs = self._through(model, tensor)
        return keras.Model(image, keras.tree.flatten(outputs)[0])

    def _through(self, model: Any, *args: Any) -> Any:
        functional = model._functional if isinstance(model, keras.Sequential) else model
        return functional._run_through_graph(args, lambda operation: operation, self._call)

    def _call(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        """Call an operation on tensors of the new graph, or the operations inside it."""
        if isinstance(operation, keras.layers.Identity):
            return args[0]  # without effect, and Keras cannot store the config of some
        if isinstance(operation, keras.Model) and getattr(operation, "inputs", None):
            self.is_expanded = True
            return self._through(operation, *args)
        if self._is_expandable(operation, args, kwargs):
            self.is_expanded = True
            for layer in _parts(operation):
                self._set_unique_name(layer, operation.name)
            return operation.call(*args, **kwargs)
        if any(operation is called for called in self._called):
            if operation.weights:
                raise RequestError(f"it calls the layer {operation.name} several times.")
            operation = type(operation).from_config(operation.get_config())
        self._called.append(operation)
        self._set_unique_name(operation, "backbone")
        return operation(*args, **kwargs)

    def _set_unique_name(self, operation: Any, prefix: str) -> None:
        """Prefix the name of an operation if another operation has the same name, or if kerastl adds a layer of this name."""
        while self._names.get(operation.name) is not operation:
            if operation.name not in (*ADDED_LAYERS, *self._names):
                self._names[operation.name] = operation
            else:
                operation.name = f"{prefix}_{operation.name}"

    def _is_expandable(self, layer: Any, args: Any, kwargs: Any) -> bool:
        """Return whether a layer is a container, and the operations inside it can be called one by one."""
        if any(layer is opaque for opaque in self._opaque) or not _is_container(layer):
            return False
        try:
            inputs: list[Any] = []
            new_args, new_kwargs = keras.tree.map_structure(
                lambda value: _new_input(value, inputs), (args, kwargs)
            )
            outputs = keras.tree.flatten(layer.call(*new_args, **new_kwargs))
            shapes = [[2 if side is None else side for side in tensor.shape] for tensor in inputs]
            keras.Model(inputs, outputs)([np.zeros(shape, np.float32) for shape in shapes])
        except Exception:  # a computation that needs the batch size, for example
            self._opaque.append(layer)
            return False
        return True


def _new_input(value: Any, inputs: list[Any]) -> Any:
    """Return a new input with the shape of a tensor, and append it to a list. Return other values as they are."""
    if not isinstance(value, keras.KerasTensor):
        return value
    inputs.append(keras.Input(batch_shape=value.shape, dtype=value.dtype))
    return inputs[-1]


def _parts(layer: Any) -> list[Any]:
    return list(layer._flatten_layers(recursive=False, include_self=False))


def _is_custom(layer: Any) -> bool:
    return isinstance(layer, keras.Layer) and not type(layer).__module__.startswith("keras.")


def _is_container(layer: Any) -> bool:
    """Return whether to expand a layer of KerasHub.

    Such a layer only calls other layers, which caches or folding need, or it cannot be restored from its config.

    Layers of the user are not expanded, because their calls may depend on whether the model is in training.
    """
    if not _is_custom(layer):
        return False
    is_complete = complete_config(layer)
    if (
        not type(layer).__module__.startswith("keras_hub.")
        or layer._trainable_variables
        or layer._non_trainable_variables
    ):
        return False
    norms = (isinstance(part, keras.layers.BatchNormalization) for part in layer._flatten_layers())
    kinds = Counter(type(part) for part in _parts(layer) if _is_custom(part) and _parts(part))
    return any(norms) or max(kinds.values(), default=0) > 1 or not is_complete


def custom_classes(model: keras.Model) -> dict[str, type]:
    """Return the classes of a model that are not of Keras, by the name in its config."""
    layers = [layer for layer in model._flatten_layers() if _is_custom(layer)]
    return {keras.saving.get_registered_name(type(layer)): type(layer) for layer in layers}


def complete_config(layer: Any) -> bool:
    """Return whether a layer can be restored from its config.

    If not, `get_config` of its class is replaced by one with an entry for each argument of the constructor. Some layers
    of KerasHub (0.32) leave out arguments, or add entries that the constructor does not accept.
    """
    kind: Any = type(layer)
    if not _is_custom(layer) or _is_restorable(layer):
        return True
    original, kind.get_config = kind.get_config, _config_of_arguments
    if not _is_restorable(layer):
        kind.get_config = original
    return bool(kind.get_config is not original)


def _is_restorable(layer: Any) -> bool:
    try:
        with keras.saving.custom_object_scope({type(layer).__name__: type(layer)}):
            json.dumps(keras.saving.serialize_keras_object(layer))
            type(layer).from_config(layer.get_config())
    except Exception:  # a config of another package can raise anything
        return False
    return set(inspect.signature(type(layer).__init__).parameters) <= {
        "self", "args", "kwargs", *layer.get_config(), *keras.Layer.get_config(layer),
    }  # fmt: skip


def _config_of_arguments(layer: Any) -> dict[str, Any]:
    arguments = inspect.signature(type(layer).__init__).parameters
    base = {
        "name": layer.name,
        "trainable": layer.trainable,
        "dtype": keras.dtype_policies.serialize(layer.dtype_policy),
    }
    own = {name: getattr(layer, name) for name in arguments if hasattr(layer, name) and name not in base}
    return {**{key: value for key, value in base.items() if key in arguments or "kwargs" in arguments}, **own}


def _with_stable_names(config: dict[str, Any]) -> dict[str, Any]:
    """Rename automatic names, which count per process: `add_7`, `add_9` to `add`, `add_1`."""
    operations = [(layer["class_name"], layer["name"]) for layer in config["layers"]]
    names = counted_names(operations)

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: renamed(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            is_reference = len(value) == 3 and isinstance(value[0], str) and isinstance(value[1], int)
            items = [names.get(value[0], value[0]), *value[1:]] if is_reference else map(renamed, value)
            return type(value)(items)
        return value

    layers = []
    for layer in config["layers"]:
        name = names.get(layer["name"], layer["name"])
        inner = {**layer["config"], "name": name}
        layers.append(
            {**layer, "name": name, "config": inner, "inbound_nodes": renamed(layer["inbound_nodes"])}
        )
    ends = {key: renamed(config[key]) for key in ("input_layers", "output_layers")}
    return {**config, **ends, "layers": layers}

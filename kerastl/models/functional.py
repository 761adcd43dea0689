"""Any Keras model as a functional classifier: one tensor of images in, one tensor of logits out."""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from kerastl.errors import RequestError, first_line
from kerastl.image_size import Size

if TYPE_CHECKING:
    import keras


TWO_LOGITS = "two_logits"
"""Name of the operation that adds the logit 0 of the first class."""


def is_functional(model: Any) -> bool:
    """Return whether the graph of a model is known: it is a functional model, or a Sequential model with an input."""
    return bool(getattr(model, "outputs", None))


def as_functional(model: keras.Model, size: Size | None = None) -> keras.Model:
    """Return a functional model that shares all layers with a model of any kind.

    A subclassed model, or one without a fixed image size, becomes the only layer of the result. A list or a dictionary with
    one tensor becomes that tensor. A single logit z, which is that of the second of two classes, becomes the two logits
    (0, z), whose softmax is the sigmoid of z.

    Args:
        model: Any Keras model with one input and one output tensor. The result is the model itself if it is functional
            with a fixed image size and several logits.
        size: (height, width) of the images, for a model without a fixed size. None uses the size of the first images
            that the model was called on.

    Raises:
        RequestError: The model needs a size, or cannot be called on images.
    """
    import keras

    network = model
    if not is_functional(model) or (len(model.inputs) == 1 and None in model.inputs[0].shape[1:3]):
        shape = _image_shape(model, size)
        image = keras.Input(shape, name="image")
        try:
            network = keras.Model(image, model(image), name=model.name)
        except Exception as error:
            raise RequestError(
                f"cannot be called on images [batch, {', '.join(map(str, shape))}]: {type(error).__name__}: "
                f"{_reason(error)}"
            ) from error
    if len(network.inputs) > 1 or len(network.outputs) > 1:
        return network
    image, logits = network.inputs[0], network.outputs[0]
    if tuple(logits.shape) == (None, 1):
        logits = two_logits(logits)
    # A list or a dictionary with one tensor is that tensor.
    is_plain = hasattr(network, "operations") and network.input is image and network.output is logits
    return network if is_plain else keras.Model(image, logits, name=model.name)


def two_logits(logit: Any) -> Any:
    """Return the logits (0, z) `[batch, 2]` for a tensor of single logits z `[batch, 1]`, by an operation of Keras."""
    import keras

    placeholder = keras.KerasTensor((None, 1))
    padding = keras.ops.pad(placeholder, ((0, 0), (1, 0)))._keras_history.operation
    return type(padding).from_config({**padding.get_config(), "name": TWO_LOGITS})(logit)


def has_single_logit(model: keras.Model) -> bool:
    """Return whether the first of the two logits of a functional model is constant, see `two_logits`."""
    return bool(model.outputs[0]._keras_history.operation.name == TWO_LOGITS)


def _reason(error: Exception) -> str:
    """Return the first line of an error, without the escape codes and the headings that Keras adds."""
    lines = re.sub(r"\x1b\[\d*m", "", str(error)).splitlines()
    heading = ("Exception encountered", "Could not automatically infer")
    return first_line(ValueError("\n".join(line for line in lines if not line.startswith(heading))))


def built_shape(model: keras.Model) -> tuple[Any, ...]:
    """Return the shape of the first images that a model was called on, or an empty tuple."""
    return tuple((getattr(model, "_build_shapes_dict", None) or {}).get("input_shape") or ())


def _image_shape(model: keras.Model, size: Size | None) -> tuple[int, int, int]:
    built = built_shape(model)
    if size is None and len(built) == 4 and None not in built[1:3]:
        size = built[1:3]
    if size is None:
        raise RequestError(
            "has no fixed image size. Start it with keras.Input((64, 64, 3)), or call it on a batch of images first."
        )
    return (*size, 3)


_call_orders: weakref.WeakKeyDictionary[Any, list[Any]] = weakref.WeakKeyDictionary()


def layers_inside(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the layers of a model from input to output, with nested models expanded.

    Layers of a subclassed model are in the order of their calls if it is part of a functional model, and otherwise in the
    order of their creation. Layers that are never called are first.
    """
    if not is_functional(model) or all(map(is_functional, _models_inside(model))):
        return _expanded(model)
    if model not in _call_orders:
        _call_orders[model] = _in_call_order(model, _expanded(model))
    return _call_orders[model]


def _models_inside(model: keras.Model) -> Iterator[keras.Model]:
    import keras

    return (part for part in model._flatten_layers() if isinstance(part, keras.Model))


def _expanded(model: keras.Model) -> list[keras.layers.Layer]:
    import keras

    nested = (_expanded(layer) if isinstance(layer, keras.Model) else [layer] for layer in model.layers)
    return list(dict.fromkeys(chain.from_iterable(nested)))


def _in_call_order(model: keras.Model, layers: Sequence[Any]) -> list[Any]:
    """Return the layers in the order in which a model calls them for a black image."""
    import keras

    called: list[int] = []
    with ExitStack() as stack:
        for layer in layers:
            stack.enter_context(wrapped_call(layer, partial(_record, called, id(layer))))
        model(keras.ops.zeros((1, *model.inputs[0].shape[1:])), training=False)
    order = {layer: index for index, layer in reversed(list(enumerate(called)))}
    return sorted(layers, key=lambda layer: order.get(id(layer), -1))


def _record(called: list[int], layer: int, call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a call that first appends a layer to the list of called layers."""

    def recorded(*args: Any, **options: Any) -> Any:
        called.append(layer)
        return call(*args, **options)

    return recorded


@contextmanager
def wrapped_call(layer: Any, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """Replace the call of a layer by `wrap(call)` within the context."""
    vars(layer)["call"] = wrap(layer.call)  # an attribute of the instance, which Keras does not track
    try:
        yield
    finally:
        del vars(layer)["call"]

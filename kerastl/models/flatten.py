"""Rebuild a keras.applications network as one flat model: input `image`, preprocessing `pixels`, the network.

Keras numbers some layers per process (`conv2d_93`). Block tables, freezing by name and checkpoints need
stable names, so that layers are renamed as in a new process.
"""

from __future__ import annotations

import pkgutil
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kerastl.image_size import Size
from kerastl.models.backbone import Pixels, get_backbone, resolve_image_size, resolve_options
from kerastl.models.functional import layers_inside

if TYPE_CHECKING:
    import keras

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)


def _scaling(pixels: Pixels) -> keras.Layer:
    """Return the layer `pixels`, always float32, because bfloat16 has too few bits for pixels."""
    import keras

    settings: dict[str, Any] = {"name": "pixels", "dtype": "float32"}
    match pixels:
        case "minus_one_to_one":
            return keras.layers.Rescaling(1 / 127.5, offset=-1.0, **settings)
        case "minus_one_to_one_128":
            return keras.layers.Rescaling(1 / 128.0, offset=-1.0, **settings)
        case "zero_to_one":
            return keras.layers.Rescaling(1 / 255.0, **settings)
        case "bgr_minus_mean":
            return keras.layers.Rescaling(1.0, offset=[-mean for mean in CAFFE_MEAN_BGR], **settings)
        case "mean_and_std":
            return keras.layers.Normalization(
                mean=[255 * mean for mean in IMAGENET_MEAN],
                variance=[(255 * std) ** 2 for std in IMAGENET_STD],
                **settings,
            )


def _reversed_channels(image: keras.KerasTensor) -> keras.KerasTensor:
    """Convert RGB to BGR.

    A Keras operation rather than a layer: it has no weights, and is saved and loaded like a layer. Its name
    is set, because automatic names differ between models.
    """
    import keras

    flip = keras.Model(image, keras.ops.flip(image, axis=-1)).operations[-1]
    return type(flip).from_config({**flip.get_config(), "name": "pixels_bgr"})(image)


PIXEL_LAYERS = ("Rescaling", "Normalization")


def flatten(source: keras.Model, *, pixels: Pixels, name: str) -> tuple[keras.Model, dict[str, keras.Layer]]:
    """Copy a network onto an input named `image` and its preprocessing layers.

    The layers are new and initialized by their own initializers. Nested models are expanded. Preprocessing
    layers inside the network are left out.

    Args:
        source: A functional model with one input `[height, width, 3]`.
        pixels: The kind of preprocessing.
        name: Name of the new model.

    Returns:
        The model, and each of its layers with weights by the name of the source layer.
    """
    import keras

    image = keras.Input(source.input_shape[1:], name="image")
    channels = _reversed_channels(image) if pixels == "bgr_minus_mean" else image
    copier = _Copier(source, image, _scaling(pixels)(channels))
    copied = keras.models.clone_model(
        source, input_tensors=image, clone_function=lambda operation: operation, call_function=copier.call
    )
    return keras.Model(copied.inputs[0], copied.outputs[0], name=name), copier.copies


def stable_names(layers: list[Any]) -> dict[str, str]:
    """Map automatic layer names to those of a new process: `conv2d_7`, `conv2d_9` to `conv2d`, `conv2d_1`."""
    return counted_names([(type(layer).__name__, layer.name) for layer in layers])


def counted_names(layers: list[tuple[str, str]]) -> dict[str, str]:
    """Map names like `stable_names`, given the class name and name of each layer."""
    counted: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for class_name, name in layers:
        kind = snake_case(class_name)
        match = re.fullmatch(rf"{kind}(?:_(\d+))?", name)
        if match:
            counted[kind].append((int(match[1] or 0), name))
    return {
        old: kind if index == 0 else f"{kind}_{index}"
        for kind, names in counted.items()
        for index, (_, old) in enumerate(sorted(names))
    }


class _Copier:
    """Call function for `clone_model` that calls a copy of each operation."""

    def __init__(self, source: keras.Model, image: Any, pixels: Any) -> None:
        self.image = image
        self.pixels = pixels
        self.names = stable_names(layers_inside(source))
        self.names_of: dict[int, str] = {id(pixels): "pixels"}
        self.outputs: list[Any] = []
        self.copies: dict[str, keras.Layer] = {}

    def call(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a copy of `operation` on tensors of the new graph and return its output."""
        import keras

        args = tuple(self.pixels if value is self.image else value for value in args)
        if args and args[0] is self.pixels and type(operation).__name__ in PIXEL_LAYERS:
            return self.pixels
        if isinstance(operation, keras.Sequential):
            for layer in operation.layers:
                args = (self.call(layer, *args),)
            return args[0]
        name = self._name(operation, args)
        copy = type(operation).from_config({**operation.get_config(), "name": name})
        output = copy(*args, **kwargs)
        self.names_of[id(output)] = name
        self.outputs.append(output)  # an id is unique only while its tensor exists
        if isinstance(operation, keras.Layer) and operation.weights:
            self.copies[operation.name] = copy
        return output

    def _name(self, operation: Any, args: tuple[Any, ...]) -> str:
        """Return the stable name of a layer; an operation such as `a + b` is named after its input."""
        import keras

        if isinstance(operation, keras.Layer):
            return self.names.get(operation.name, operation.name)
        inputs = [self.names_of[id(value)] for value in args if id(value) in self.names_of]
        return f"{inputs[-1]}_{snake_case(type(operation).__name__)}"


def snake_case(name: str) -> str:
    """Convert `BatchNormalization` to `batch_normalization` and `ReLU` to `re_lu`, as Keras does."""
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def build_source(
    name: str, *, image_size_px: int | Size | None = None, seed: int | None = None, **options: Any
) -> keras.Model:
    """Build the network with its own builder, without top and with random weights.

    `name` is not passed to the builder, because Keras derives names of weights files from it.

    Raises:
        RequestError: If an option is unknown, or the size is below the minimum.
    """
    import keras

    backbone = get_backbone(name)
    size = resolve_image_size(name, image_size_px)
    if seed is not None:
        keras.utils.set_random_seed(seed)
    return pkgutil.resolve_name(backbone.builder)(
        include_top=False,
        weights=None,
        input_shape=(*size, 3),
        **dict(backbone.arguments),
        **resolve_options(name, options),
    )


@contextmanager
def without_values() -> Iterator[None]:
    """Build networks of which only the graph is used. Creating the initial values of variables would take half of the time."""
    import keras
    from keras.src.backend.common import global_state

    key = "uninitialized_variables"
    pending = list(global_state.get_global_attribute(key, []))
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        # Otherwise Keras would initialize them when the next layer is built.
        global_state.set_global_attribute(key, pending)

"""Rebuild a keras.applications network as one flat model: input `image`, layers `pixels`, the network.

Keras names some layers by a counter of the process (`conv2d_93`); tables, freezing by name and
checkpoints need the same names every time, so each is renamed as a fresh process would name it.
"""

from __future__ import annotations

import importlib
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from kerastl.models.backbone import Pixels, get_backbone, resolve_options, resolve_image_size

if TYPE_CHECKING:
    import keras

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)


def apply_pixels(image: keras.KerasTensor, pixels: Pixels) -> keras.KerasTensor:
    """Put the pixel layers behind an input.

    Args:
        image: `[batch, height, width, 3]` float32, RGB in [0, 255].
        pixels: the rule.

    Returns:
        The same shape, float32, as the network wants it.
    """
    if pixels == "bgr_minus_mean":
        image = _reversed_channels(image)
    return _scaling(pixels)(image)


def _scaling(pixels: Pixels) -> keras.Layer:
    """Return the layer `pixels`. It stays float32 under every policy: bfloat16 has 8 bits, pixels more."""
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
    """Return red, green, blue as blue, green, red.

    A Keras operation, not a layer: it has no weights that a training could move, and it is saved
    and loaded like any layer. Its name is chosen by hand, as an automatic one would differ from
    model to model.
    """
    import keras

    flip = keras.Model(image, keras.ops.flip(image, axis=-1)).operations[-1]
    return type(flip).from_config({**flip.get_config(), "name": "pixels_bgr"})(image)


PIXEL_LAYERS = ("Rescaling", "Normalization")


def flatten(source: keras.Model, *, pixels: Pixels, name: str) -> tuple[keras.Model, dict[str, str]]:
    """Copy a network behind an input named `image` and the layers of its pixel rule.

    Layers are new, with the initial values of their own initializers; nested models are opened up;
    pixel layers that the network has inside are left out, as `pixels` takes their place.

    Args:
        source: a functional model with one input `[height, width, 3]`.
        pixels: the pixel rule.
        name: the name of the new model.

    Returns:
        The model, and for each of its layers with weights the name of the layer it is a copy of.
    """
    import keras

    image = keras.Input(source.input_shape[1:], name="image")
    copier = _Copier(source, image, apply_pixels(image, pixels))
    copied = keras.models.clone_model(
        source, input_tensors=image, clone_function=lambda operation: operation, call_function=copier.call
    )
    return keras.Model(copied.inputs[0], copied.outputs[0], name=name), copier.origins


def stable_names(layers: list[Any]) -> dict[str, str]:
    """Map automatic names to those that a fresh process would have given.

    Args:
        layers: layers in any order; `conv2d_7`, `conv2d_9` become `conv2d`, `conv2d_1`.
    """
    return counted_names([(type(layer).__name__, layer.name) for layer in layers])


def counted_names(layers: list[tuple[str, str]]) -> dict[str, str]:
    """Do as `stable_names` for layers that were not built: `(class, name)` of each."""
    counted: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for class_name, name in layers:
        kind = snake_case(class_name)
        found = re.fullmatch(rf"{kind}(?:_(\d+))?", name)
        if found:
            counted[kind].append((int(found[1] or 0), name))
    return {
        old: kind if index == 0 else f"{kind}_{index}"
        for kind, names in counted.items()
        for index, (_, old) in enumerate(sorted(names))
    }


def layers_inside(model: keras.Model) -> list[keras.Layer]:
    """Return the layers of a model and of the models nested in it, nested ones opened up."""
    import keras

    found: list[keras.Layer] = []
    for layer in model.layers:
        found += layers_inside(layer) if isinstance(layer, keras.Model) else [layer]
    return found


class _Copier:
    """Call a copy of each operation, where `clone_model` would call the operation itself."""

    def __init__(self, source: keras.Model, image: Any, pixels: Any) -> None:
        self.image = image
        self.pixels = pixels
        self.names = stable_names(layers_inside(source))
        self.names_of: dict[int, str] = {id(pixels): "pixels"}
        self.kept: list[Any] = []
        self.origins: dict[str, str] = {}

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
        self.kept.append(output)  # an id is unique only while its tensor lives
        if isinstance(operation, keras.Layer) and operation.weights:
            self.origins[name] = operation.name
        return output

    def _name(self, operation: Any, args: tuple[Any, ...]) -> str:
        """Name a layer as a fresh process would; a bare operation (`a + b`) after what it follows."""
        import keras

        if isinstance(operation, keras.Layer):
            return self.names.get(operation.name, operation.name)
        before = [self.names_of[id(value)] for value in args if id(value) in self.names_of]
        return f"{before[-1]}_{snake_case(type(operation).__name__)}"


def snake_case(name: str) -> str:
    """`BatchNormalization` becomes `batch_normalization`, `ReLU` `re_lu`, as Keras does it."""
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def build_source(
    name: str, *, image_size_px: int | None = None, seed: int | None = None, **options: Any
) -> keras.Model:
    """Build the network as its own builder makes it, without top and with random weights.

    The builder is never given `name=`: Keras derives names of weights files from it.

    Raises:
        RequestError: unknown option, or a size below the smallest.
    """
    import keras

    backbone = get_backbone(name)
    size = resolve_image_size(name, image_size_px)
    if seed is not None:
        keras.utils.set_random_seed(seed)
    path, _, function = backbone.builder.rpartition(".")
    return getattr(importlib.import_module(path), function)(
        include_top=False,
        weights=None,
        input_shape=(size, size, 3),
        **dict(backbone.arguments),
        **resolve_options(name, options),
    )

"""Build the backbone of a KerasHub preset, and load its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from kerastl.errors import Problem, Problems, RequestError, first_line
from kerastl.image_size import Size
from kerastl.models.presets import FIXED, Architecture, Preset, check_installed
from kerastl.models.weight_files import check_model_file, read_vectors, weights_file_errors


def build_preset(
    preset: Preset, size: Size, *, seed: int | None = None, has_weights: bool
) -> tuple[keras.Model, int | None]:
    """Build the backbone of a preset, as KerasHub builds it.

    Args:
        preset: The preset.
        size: Height and width of the images in pixels, if the backbone is built for one size.
        seed: Seed of random weights; None uses Keras's global generator.
        has_weights: Whether to load the weights of the preset.

    Returns:
        A functional model with one input and one output tensor, and its number of prefix tokens, see `LoadedBackbone`.

    Raises:
        RequestError: KerasHub is not installed, it cannot build the preset, or a file is damaged.
    """
    check_installed()
    import keras_hub

    architecture = preset.architecture
    options: dict[str, Any] = {"dtype": "float32"}
    if "image_shape" in preset.config and architecture.sizes != FIXED:
        options["image_shape"] = (*size, 3)
    for file in preset.weight_files() if has_weights else ():
        with weights_file_errors(file):
            read_vectors(file)
    if seed is not None:
        keras.utils.set_random_seed(seed)
    try:
        backbone = keras_hub.models.Backbone.from_preset(
            str(preset.folder), load_weights=has_weights, **options
        )
    except Exception as error:  # KerasHub and Keras can raise anything for an invalid config
        raise RequestError(
            f"KerasHub {keras_hub.__version__} cannot build the preset {preset.folder}: {first_line(error)}"
        ) from error
    return image_network(backbone, architecture), preset.num_prefix_tokens


def image_network(backbone: Any, architecture: Architecture) -> keras.Model:
    """Return the image backbone as a functional model of one tensor. Of several outputs, the last one is the deepest."""
    if architecture.vision_encoder:
        backbone = backbone.vision_encoder
    backbone = _with_fixed_positions(backbone)
    outputs = keras.tree.flatten(backbone.output)
    return keras.Model(keras.tree.flatten(backbone.input)[0], outputs[-1], name=backbone.name)


def _with_fixed_positions(backbone: Any) -> Any:
    """Return a DINOv2 backbone whose positions are those of its image size; any other backbone as it is.

    KerasHub stores the positions of the original image size. Trained positions would be interpolated back when they are
    saved, and again when they are loaded, so that a saved classifier would compute something else.
    """
    shapes = (backbone.get_config().get(key) for key in ("image_shape", "position_embedding_shape"))
    image_shape, position_shape = (None if shape is None else list(shape)[:2] for shape in shapes)
    if position_shape is None or position_shape == image_shape:
        return backbone
    fixed = type(backbone).from_config(
        {**backbone.get_config(), "position_embedding_shape": backbone.image_shape}
    )
    positions = backbone.embeddings.interpolated_position_embeddings
    for new, old in zip(fixed.weights, backbone.weights, strict=True):
        new.assign(positions if new is fixed.embeddings.position_embeddings else old)
    return fixed


def load_layers(path: Path, model: keras.Model) -> None:
    """Copy the weights of the layers of a saved model into the layers of the same names.

    Args:
        path: A `.keras` file, such as `model.keras` of a run.
        model: A backbone. Layers of the file that it does not have are ignored, such as a head.

    Raises:
        RequestError: The file cannot be read, or lacks a layer.
    """
    if path.suffix != ".keras":
        raise RequestError(f"{path} must be a .keras file or a run folder for a preset of KerasHub.")
    saved = load_model_file(path)
    layers = {layer.name: layer for layer in saved.layers}
    problems = []
    for layer in model.layers:
        shapes = [tuple(weight.shape) for weight in layer.weights]
        stored = [tuple(weight.shape) for weight in getattr(layers.get(layer.name), "weights", ())]
        if shapes != stored:
            problems.append(
                Problem(f"layer {layer.name}", f"expected shapes {shapes}, found {stored or 'no such layer'}")
            )
        elif shapes:
            layer.set_weights(layers[layer.name].get_weights())
    if problems:
        raise Problems(
            f"The weights file {path}",
            problems,
            f"It belongs to a different architecture than {model.name}.",
            5,
        )


def load_model_file(path: Path) -> keras.Model:
    """Load a `.keras` file without its optimizer. A file with classes of other packages or with code is refused.

    Raises:
        RequestError: The file is damaged, not safe, or needs KerasHub, which is not installed.
    """
    check_model_file(path)
    with weights_file_errors(path):
        return keras.saving.load_model(path, compile=False, safe_mode=True)

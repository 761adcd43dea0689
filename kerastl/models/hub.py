"""Build the backbone of a KerasHub preset, and load its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from kerastl.errors import Problem, Problems, RequestError, first_line
from kerastl.image_size import Size
from kerastl.models.backbone import HEAD_LAYERS, LoadedBackbone
from kerastl.models.expand import complete_config
from kerastl.models.hub_presets import Architecture, Preset, check_installed
from kerastl.models.weight_files import check_model_file, weights_file_errors


def build_preset(preset: Preset, size: Size, *, seed: int | None = None, has_weights: bool) -> keras.Model:
    """Build the backbone of a preset, as KerasHub builds it.

    Args:
        preset: The preset.
        size: Height and width of the images in pixels, if the backbone is built for one size.
        seed: Seed of random weights; None uses Keras's global generator.
        has_weights: Whether to load the weights of the preset.

    Returns:
        A functional model with one input and one output tensor.

    Raises:
        RequestError: KerasHub is not installed, it cannot build the preset, or a file is damaged.
    """
    check_installed()
    import keras_hub

    architecture = preset.architecture
    # The name of a backbone would be a prefix of the names of some layers.
    options: dict[str, Any] = {"dtype": "float32", "name": None}
    if "image_shape" in preset.config and architecture.sizes != "fixed":
        options["image_shape"] = (*size, 3)
    if has_weights:
        preset.check_weights()
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
    return image_network(backbone, architecture)


def image_network(backbone: Any, architecture: Architecture) -> keras.Model:
    """Return the image backbone as a functional model of one tensor. Of several outputs, the last one is the deepest."""
    if architecture.vision_encoder:
        backbone = backbone.vision_encoder
    backbone = _for_classification(backbone)
    outputs = keras.tree.flatten(backbone.output)
    return keras.Model(keras.tree.flatten(backbone.input)[0], outputs[-1], name=backbone.name)


def _for_classification(backbone: Any) -> Any:
    """Return a DINOv2 or DINOv3 backbone without its parts for other tasks, and any other backbone unchanged.

    The mask token is for self-supervised training and receives no gradient. KerasHub stores the positions of DINOv2 for
    the original image size: trained positions would be interpolated back when they are saved, and again when they are
    loaded, so a saved classifier would return different outputs.
    """
    config = backbone.get_config()
    if "use_mask_token" not in config:
        return backbone
    config |= {"use_mask_token": False, "name": None}
    if "position_embedding_shape" in config:
        config["position_embedding_shape"] = backbone.image_shape
    plain = type(backbone).from_config(config)
    weights = [weight for weight in backbone.weights if weight.name != "mask_token"]
    for new, old in zip(plain.weights, weights, strict=True):
        is_stored = old.name == "position_embeddings"
        new.assign(backbone.embeddings.interpolated_position_embeddings if is_stored else old)
    return plain


def classifier_backbone(path: Path) -> LoadedBackbone:
    """Return the backbone of a classifier of kerastl, with its preprocessing and its trained weights.

    Raises:
        RequestError: The file is damaged or not safe, or is not a classifier of kerastl.
    """
    saved = load_model_file(path)
    head = [layer for layer in saved.layers if layer.name in HEAD_LAYERS]
    if not head or "pixels" not in {layer.name for layer in saved.layers}:
        raise RequestError(f"{path} is not a classifier of kerastl, so its backbone is unknown.")
    names = {layer.name: layer for layer in head}
    backbone = keras.Model(saved.inputs[0], head[0].input, name=path.parent.name)
    tokens = 1 if "class_token" in names else 0
    tokens = names["patch_tokens"].cropping[0] if "patch_tokens" in names else tokens
    return LoadedBackbone(backbone, path, (), tokens if len(backbone.output_shape) == 3 else None)


def load_layers(path: Path, model: keras.Model) -> None:
    """Copy the weights of the layers of a saved model into the layers of the same names.

    Args:
        path: A `.keras` file, such as `model.keras` of a run.
        model: A backbone. Layers of the file that it does not have are ignored, such as a head, unless the file is a
            classifier of kerastl, whose head is known.

    Raises:
        RequestError: The file cannot be read, lacks a layer, or is a classifier with other layers.
    """
    if path.suffix != ".keras":
        raise RequestError(
            f"The weights of a KerasHub preset must be a .keras file or a run folder, got {path}."
        )
    saved = load_model_file(path)
    layers = {layer.name: layer for layer in saved.layers}
    known = {*HEAD_LAYERS, *(layer.name for layer in model.layers)}
    problems = [
        Problem(f"layer {name}", f"is in the file, but not in {model.name}")
        for name, layer in layers.items()
        if "head" in layers and layer.weights and name not in known
    ]
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
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    return repaired(model)


def repaired(model: keras.Model) -> keras.Model:
    """Return a loaded model after completing the configs of its layers, so that it can be saved and copied again."""
    for layer in model._flatten_layers():
        complete_config(layer)
    return model

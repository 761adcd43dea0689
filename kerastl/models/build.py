"""Build a backbone and its head as one flat Keras model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from kerastl import registry
from kerastl.errors import RequestError, in_syntax
from kerastl.image_size import Size, as_size
from kerastl.models.backbone import LoadedBackbone, get_backbone, resolve_image_size
from kerastl.models.expand import expand
from kerastl.models.flatten import build_source, flatten, without_values
from kerastl.models.functional import two_logits
from kerastl.models.hub import build_preset, classifier_backbone, load_layers, load_model_file
from kerastl.models.hub_presets import preset_exists, read_preset
from kerastl.models.own_model import load_model
from kerastl.models.pooling import add_pooling
from kerastl.models.signature import write_signature
from kerastl.models.weight_files import adopt_preprocessing, check_published_weights, load_weights_file
from kerastl.models.weights import locate_weights, missing_weights_message
from kerastl.recipe import Pooling
from kerastl.recipe.rules import binary_problem

SUFFIXES = (".keras", ".weights.h5", ".h5")


def build_backbone(
    name: str,
    *,
    weights: str | Path | None = "imagenet",
    image_size_px: int | Size | None = None,
    seed: int | None = None,
    **options: Any,
) -> keras.Model:
    """Build a backbone: input `image`, preprocessing, the network up to its last feature map.

    Args:
        name: A name that `kerastl weights ls` lists, e.g. `mobilenet_v2`; or a preset of KerasHub, `keras_hub/NAME` or
            `keras_hub/PATH`.
        weights: `imagenet`, None or `none` (random), a weights file (.h5, .weights.h5, .keras), or a run folder. For a
            preset, `imagenet` and `preset` are its own weights.
        image_size_px: Side length or (height, width) of the images; None means the published size.
        seed: Seed of random weights; None uses Keras's global generator.
        **options: Options of the family, e.g. `alpha=0.35`.

    Returns:
        A flat functional model from `[batch, height, width, 3]` float32 RGB in [0, 255] to
        `[batch, height', width', channels]`, or, for some presets, to tokens `[batch, tokens, channels]` or to pooled
        features `[batch, channels]`.

    Raises:
        RequestError: If a name or option is unknown, the size is too small, or the weights are missing or
            belong to a different architecture.

    Example:
        >>> backbone = build_backbone("mobilenet_v2", weights="none", image_size_px=96, alpha=0.35)
        >>> backbone.output_shape
        (None, 3, 3, 1280)
    """
    return load_backbone(name, weights=weights, image_size_px=image_size_px, seed=seed, **options).model


def load_backbone(
    name: str,
    *,
    weights: str | Path | None = "imagenet",
    image_size_px: int | Size | None = None,
    seed: int | None = None,
    **options: Any,
) -> LoadedBackbone:
    """Build a backbone like `build_backbone`, and return the origin of its weights as well."""
    if registry.has_own_weights(name):
        return _load_own(name, weights, image_size_px, seed, **options)
    backbone = get_backbone(name)
    located = None
    if weights == "imagenet":
        located = locate_weights(name, image_size_px=image_size_px, **options)
        if located is None:
            raise RequestError(missing_weights_message(name, image_size_px, options))
    path = located.path if located else _weights_file(weights)
    with without_values():
        source = build_source(name, image_size_px=image_size_px, seed=seed, **options)
    with without_values() if path else nullcontext():
        model, copies = flatten(source, pixels=backbone.pixels, name=name)
    if path is None:
        return LoadedBackbone(model, None, ())
    if located:
        check_published_weights(located, name, source)
    load_weights_file(path, source, model, copies)
    _check_finite(path, model)
    note = "" if located else adopt_preprocessing(path, model)
    return LoadedBackbone(model, path, located.notes if located else (note,) if note else ())


def load_own_model(
    model: keras.Model, *, image_size_px: int | Size | None = None, scale: Any = None, offset: Any = None
) -> LoadedBackbone:
    """Return a backbone for `build_model` from a Keras model of any kind.

    Args:
        model: A backbone or a classifier, whose head is left out. It is copied if its config describes it.
        image_size_px: Side length or (height, width) of the images. None means the size of the model.
        scale, offset: The model takes `pixels * scale + offset`: numbers, or one for each of R, G and B. None means that it
            rescales pixels in [0, 255] itself.

    Raises:
        RequestError: The model is not usable; the message has the reason.
    """
    size = None if image_size_px is None else as_size(image_size_px)
    return load_model(model, size, name=model.name, scale=scale, offset=offset)


def _load_own(
    name: str, weights: str | Path | None, image_size_px: int | Size | None, seed: int | None, **options: Any
) -> LoadedBackbone:
    """Build the backbone of a KerasHub preset or of a `.keras` file."""
    has_own_weights = weights in ("imagenet", "preset")
    path = None if has_own_weights else _weights_file(weights)
    if path is not None and not preset_exists(name):
        # The preset is missing, but the trained model contains its backbone.
        return classifier_backbone(path)
    size = resolve_image_size(name, image_size_px)
    if registry.is_model_file(name):
        loaded = load_model(
            load_model_file(Path(name)),
            size,
            name=Path(name).stem,
            has_weights=has_own_weights,
            seed=seed,
            **options,
        )
        loaded = replace(loaded, weights_path=Path(name) if has_own_weights else path)
    else:
        preset = read_preset(name)
        *scaling, note = preset.choose_scaling(**options, has_weights=has_own_weights)
        source = build_preset(preset, size, seed=seed, has_weights=has_own_weights)
        model = expand(source, size=size, scale=scaling[0], offset=scaling[1], name=preset.folder.name)
        weights_path = preset.weight_files()[0] if has_own_weights else path
        loaded = LoadedBackbone(
            model,
            weights_path,
            (note,) if note else (),
            preset.num_prefix_tokens,
            preset.license,
            preset.resize if preset.converter else None,
        )
    if path is not None:
        load_layers(path, loaded.model)
    _check_finite(loaded.weights_path, loaded.model)
    return loaded


def _check_finite(path: Path | None, model: keras.Model) -> None:
    if path and not all(keras.ops.all(keras.ops.isfinite(weight)) for weight in model.weights):
        raise RequestError(f"{path} has NaN or infinite weights. Use another file.")


def _weights_file(weights: str | Path | None) -> Path | None:
    """Return the weights file; None for random weights.

    Raises:
        RequestError: If there is no such file, or its type is unknown.
    """
    if weights in (None, "none"):
        return None
    path = Path(weights)
    if path.is_dir():
        path = path / "model.keras"
    if not path.is_file():
        raise RequestError(
            f"There are no weights at {path}. `weights` accepts imagenet (preset, for a preset or a .keras file), none, "
            f"a file ({', '.join(SUFFIXES)}), or a run folder with model.keras."
        )
    if not path.name.endswith(SUFFIXES):
        raise RequestError(f"{path} is not a weights file. Supported types: {', '.join(SUFFIXES)}.")
    return path


def build_model(
    backbone: keras.Model,
    *,
    class_names: Sequence[str],
    dropout: float = 0.2,
    binary: bool = False,
    seed: int = 0,
    pooling: Pooling = "auto",
    num_prefix_tokens: int | None = None,
) -> keras.Model:
    """Add a new classification head to a backbone.

    Args:
        backbone: A flat model from `build_backbone`: `[batch, h, w, 3]` in [0, 255] to `[batch, h', w',
            channels]`, `[batch, tokens, channels]` or `[batch, channels]`.
        class_names: Names of the classes, at least two, in the order of the logits.
        dropout: Dropout rate of the pooled features, 0 to below 1.
        binary: Whether the head has a single unit, the logit z of the second of two classes. The model then returns the
            logits (0, z), whose softmax is the sigmoid of z.
        seed: Seed of the initial weights and of the dropout.
        pooling: How tokens become features, as in `head.pooling` of a recipe.
        num_prefix_tokens: As in `LoadedBackbone`.

    Returns:
        A flat `keras.Model`: input `image`, the layers of the backbone, then `pooled` (`[batch, channels]`),
        `head_dropout` and `head`, which returns logits `[batch, classes]` float32. All layers are trainable. It
        stores the class names (see `read_signature`), also in a file.

    Raises:
        RequestError: The pooling does not fit the backbone, or a binary head is requested for other than two classes.
    """
    if binary and (problem := binary_problem(class_names)):
        raise RequestError(f"{in_syntax('head.binary', 'binary')}: {problem}")
    pooled = add_pooling(backbone, pooling, num_prefix_tokens, seed)
    dropped = keras.layers.Dropout(dropout, seed=seed, name="head_dropout")(pooled)
    logits = keras.layers.Dense(
        1 if binary else len(class_names),
        kernel_initializer=keras.initializers.GlorotUniform(seed=seed),
        # Logits stay float32 under any mixed-precision policy, because a float16 softmax is imprecise.
        dtype="float32",
        name="head",
    )(dropped)
    model = keras.Model(backbone.inputs[0], two_logits(logits) if binary else logits, name="classifier")
    write_signature(model, class_names=list(class_names))
    return model

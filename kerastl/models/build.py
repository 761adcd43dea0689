"""Build a backbone: a flat Keras model from pixels to the last map of features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from kerastl.errors import RequestError
from kerastl.models.backbone import get_backbone
from kerastl.models.flatten import build_source, flatten
from kerastl.models.weight_files import check_published_weights, load_weights_file
from kerastl.models.weights import locate_weights
from kerastl.runs import sha256_of

SUFFIXES = (".keras", ".weights.h5", ".h5")


@dataclass(frozen=True)
class LoadedBackbone:
    """A backbone and where its weights came from.

    Args:
        model: the flat Keras model.
        weights_path: the file that was read, None for random weights.
        sha256: 64 hex digits of that file, None for random weights.
        notes: what the user should know of the choice, one line each.
    """

    model: keras.Model
    weights_path: Path | None
    sha256: str | None
    notes: tuple[str, ...]


def build_backbone(
    name: str,
    *,
    weights: str | Path = "imagenet",
    image_size_px: int | None = None,
    seed: int | None = None,
    **options: Any,
) -> keras.Model:
    """Build a backbone: input `image`, layers `pixels`, the network, its last map of features.

    Args:
        name: as `kerastl weights ls` lists it, e.g. `mobilenet_v2`.
        weights: `imagenet`, `none` (random), or a file (.h5, .weights.h5, .keras) or run folder.
        image_size_px: side of the square images; the published size where None.
        seed: seed of random weights; Keras's global generator as it stands where None.
        **options: the family's options, e.g. `alpha=0.35`.

    Returns:
        Flat functional model: `[batch, size, size, 3]` float32 RGB in [0, 255] to
        `[batch, height, width, channels]`.

    Raises:
        RequestError: unknown name or option, a size too small, weights that are not there or that
            belong to another architecture.
    """
    return load_backbone(name, weights=weights, image_size_px=image_size_px, seed=seed, **options).model


def load_backbone(
    name: str,
    *,
    weights: str | Path = "imagenet",
    image_size_px: int | None = None,
    seed: int | None = None,
    **options: Any,
) -> LoadedBackbone:
    """Build a backbone as `build_backbone` does, and say which weights it took."""
    backbone = get_backbone(name)
    located = None
    if weights == "imagenet":
        located = locate_weights(name, image_size_px=image_size_px, **options)
    path = located.path if located else _weights_file(weights)
    source = build_source(name, image_size_px=image_size_px, seed=seed, **options)
    model, origins = flatten(source, pixels=backbone.pixels, name=name)
    if path is None:
        return LoadedBackbone(model, None, None, ())
    if located:
        check_published_weights(located, name, source)
    load_weights_file(path, source, model, origins)
    return LoadedBackbone(model, path, sha256_of(path), located.notes if located else ())


def _weights_file(weights: str | Path) -> Path | None:
    """Return the file that is meant; None for random weights.

    Raises:
        RequestError: there is no such file, or it is of no known kind.
    """
    if weights == "none":
        return None
    path = Path(weights)
    if path.is_dir():
        path = path / "model.keras"
    if not path.is_file():
        raise RequestError(
            f"There are no weights at {path}. `weights` takes: imagenet, none, "
            f"a file ({', '.join(SUFFIXES)}), or a run folder that holds model.keras."
        )
    if not path.name.endswith(SUFFIXES):
        raise RequestError(f"{path} is no weights file: known are {', '.join(SUFFIXES)}.")
    return path


def build_model(
    backbone: keras.Model, *, class_names: Sequence[str], dropout: float = 0.2, seed: int = 0
) -> keras.Model:
    """Put a new head on a backbone.

    Args:
        backbone: a flat model from `build_backbone`: `[batch, h, w, 3]` in [0, 255] to a feature map
            `[batch, h', w', channels]`.
        class_names: at least two; the order of the logits.
        dropout: share of the pooled features that is dropped in training, 0 to below 1.
        seed: of the head's first weights and of its dropout.

    Returns:
        An ordinary flat `keras.Model`: input `image`, the backbone's layers, then `pooled`
        (`[batch, channels]`), `head_dropout` and `head`, which gives logits `[batch, classes]` float32.
        Keras's own `fit` works on it. Nothing is frozen yet: see `unfreeze`.
    """
    pooled = keras.layers.GlobalAveragePooling2D(name="pooled")(backbone.output)
    dropped = keras.layers.Dropout(dropout, seed=seed, name="head_dropout")(pooled)
    logits = keras.layers.Dense(
        len(class_names),
        kernel_initializer=keras.initializers.GlorotUniform(seed=seed),
        # Logits stay float32 under any mixed-precision policy: softmax over half floats loses digits.
        dtype="float32",
        name="head",
    )(dropped)
    return keras.Model(backbone.inputs[0], logits, name="classifier")

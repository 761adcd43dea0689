"""Build a backbone: a flat Keras model from pixels to the last map of features."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerastl import registry
from kerastl.backbones.backbone import Backbone
from kerastl.backbones.flatten import flatten
from kerastl.errors import RequestError

if TYPE_CHECKING:
    import keras


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
        image_size_px: side of the square pictures; the published size where None.
        seed: seed of random weights; Keras's global generator as it stands where None.
        **options: the family's options, e.g. `alpha=0.35`.

    Returns:
        Flat functional model: `[batch, size, size, 3]` float32 RGB in [0, 255] to
        `[batch, height, width, channels]`.

    Raises:
        RequestError: unknown name or option, a size too small, weights that are not there or that
            belong to another architecture.
    """
    return load_backbone(
        name, weights=weights, image_size_px=image_size_px, seed=seed, **options
    ).model


def load_backbone(
    name: str,
    *,
    weights: str | Path = "imagenet",
    image_size_px: int | None = None,
    seed: int | None = None,
    **options: Any,
) -> LoadedBackbone:
    """Build a backbone as `build_backbone` does, and say which weights it took."""
    if weights != "none":
        raise RequestError("weights")
    backbone = backbone_named(name)
    source = build_source(name, image_size_px=image_size_px, seed=seed, **options)
    model, _ = flatten(source, pixels=backbone.pixels, name=name)
    return LoadedBackbone(model, None, None, ())


def backbone_named(name: str) -> Backbone:
    """Return the table of one backbone.

    Raises:
        RequestError: no such name; the text names the nearest right one.
    """
    backbone = registry.module("backbone", name).BACKBONES[name]
    assert isinstance(backbone, Backbone)
    return backbone


def build_source(
    name: str, *, image_size_px: int | None = None, seed: int | None = None, **options: Any
) -> keras.Model:
    """Build the network as its own builder makes it, without top and with random weights.

    The builder is never given `name=`: Keras derives names of weights files from it.

    Raises:
        RequestError: unknown option, or a size below the smallest.
    """
    import keras

    backbone = backbone_named(name)
    size = checked_size(name, image_size_px)
    if seed is not None:
        keras.utils.set_random_seed(seed)
    path, _, function = backbone.builder.rpartition(".")
    return getattr(importlib.import_module(path), function)(
        include_top=False,
        weights=None,
        input_shape=(size, size, 3),
        **dict(backbone.arguments),
        **checked_options(name, options),
    )


def checked_size(name: str, image_size_px: int | None) -> int:
    """Return the side of the pictures in pixels, the published one where None.

    Raises:
        RequestError: it is below the smallest that the network can be built for.
    """
    backbone = backbone_named(name)
    size = backbone.image_size_px if image_size_px is None else image_size_px
    if size < backbone.min_size_px:
        raise RequestError(
            f"{name} needs pictures of at least {backbone.min_size_px} pixels a side, got {size}."
        )
    return size


def checked_options(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the builder's arguments for a family's options, defaults filled in.

    Raises:
        RequestError: the family has no such option.
    """
    kind = registry.options_of("backbone", name)
    known = [field.name for field in fields(kind)] if kind else []
    unknown = sorted(set(options) - set(known))
    if unknown:
        allowed = f"It has: {', '.join(known)}." if known else "It has none."
        raise RequestError(f"{name} has no option '{unknown[0]}'. {allowed}")
    if kind is None:
        return {}
    values = kind(**options)
    return {key: getattr(values, key) for key in known}

"""What a backbone is, as data: the tables in `families/` are made of these and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from kerastl import registry
from kerastl.errors import RequestError

Pixels = Literal["minus_one_to_one", "minus_one_to_one_128", "bgr_minus_mean", "zero_to_one", "mean_and_std"]
"""What a network wants to see, made inside the model from RGB in [0, 255].

- minus_one_to_one: x / 127.5 - 1.
- minus_one_to_one_128: x / 128 - 1 (the larger EfficientNetV2: 255 becomes 0.992).
- bgr_minus_mean: blue, green, red, each less its ImageNet mean (Caffe's way); not scaled.
- zero_to_one: x / 255.
- mean_and_std: (x / 255 - mean) / std of each color over ImageNet.
"""

KERAS_TABLE = "https://keras.io/api/applications/"
"""The page whose table gives published top-1 accuracies on the ImageNet validation set."""


@dataclass(frozen=True)
class BlockSeries:
    """Blocks in a row whose names follow a pattern; with `each` empty, one block.

    Args:
        name: the blocks' name, `{}` standing for each member: `conv2_block{}`.
        edge: the layer whose output leaves the block: `conv2_block{}_out`. Where several outputs
            cross, they are joined by `+`. Alternatives are parted by `|` (the first that the built
            network has): a narrow network has a residual sum where a wide one has none.
        each: what to put for `{}`: `range(1, 4)` or letters, `"abc"`.
    """

    name: str
    edge: str
    each: range | str = ""


@dataclass(frozen=True)
class Block:
    """A piece of a built network that is frozen, cut or cached as one.

    Args:
        name: how a recipe names it: `trainable: {from_block: NAME}`.
        layers: names of its layers, in the model's order. The first block holds input and pixels.
        edge: names of the layers whose outputs cross to what follows; nothing else crosses.
    """

    name: str
    layers: tuple[str, ...]
    edge: tuple[str, ...]


@dataclass(frozen=True)
class PublishedWeights:
    """One published pair of files: the network without its top, and with it.

    Args:
        file: name in `$KERAS_HOME/models` of the file without top.
        url: where it is published.
        hash: md5 (32 hex digits) or sha256 (64) as published; empty where none is.
        top_file, top_url, top_hash: the same for the network with its 1,000-class top.
        size_px: side of the images it was trained on, where files differ by it.
        options: the family's options the file belongs to, as `(("alpha", 0.35),)`.
    """

    file: str
    url: str
    hash: str
    top_file: str
    top_url: str
    top_hash: str
    size_px: int | None = None
    options: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True)
class Backbone:
    """A network that turns images into a map of features.

    Args:
        builder: dotted name of the function that makes it.
        pixels: what it wants to see; the model does it, once, inside.
        image_size_px: side of the images it was published for.
        min_size_px: smallest side it can be built for.
        parameters: number of weights without top, at the default options.
        blocks: its blocks from the input on.
        reference: the paper.
        weights: published files; empty for a network of our own.
        top1: published top-1 accuracy on ImageNet, 0 to 1, with `top1_source`; None: not published.
        linear_top: whether the published top is one linear layer on globally averaged features, so
            that its classes can be carried over.
        arguments: fixed arguments of the builder, as `(("include_preprocessing", False),)`.
    """

    builder: str
    pixels: Pixels
    image_size_px: int
    min_size_px: int
    parameters: int
    blocks: tuple[BlockSeries, ...]
    reference: str
    weights: tuple[PublishedWeights, ...] = ()
    top1: float | None = None
    top1_source: str = KERAS_TABLE
    linear_top: bool = True
    arguments: tuple[tuple[str, object], ...] = ()


def list_backbones() -> dict[str, Backbone]:
    """Return every backbone by name, in alphabetical order."""
    return {name: get_backbone(name) for name in registry.names("backbone")}


def get_backbone(name: str) -> Backbone:
    """Return the table of one backbone.

    Raises:
        RequestError: no such name; the text names the nearest right one.
    """
    backbone = registry.module("backbone", name).BACKBONES[name]
    assert isinstance(backbone, Backbone)
    return backbone


def resolve_image_size(name: str, image_size_px: int | None) -> int:
    """Return the side of the images in pixels, the published one where None.

    Raises:
        RequestError: it is below the smallest that the network can be built for.
    """
    backbone = get_backbone(name)
    size = backbone.image_size_px if image_size_px is None else image_size_px
    if size < backbone.min_size_px:
        raise RequestError(
            f"{name} needs images of at least {backbone.min_size_px} pixels a side, got {size}."
        )
    return size


def resolve_options(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return a family's options with defaults filled in.

    Raises:
        RequestError: the family has no such option.
    """
    kind = registry.options_of("backbone", name)
    known = list(kind.model_fields) if kind else []
    unknown = sorted(set(options) - set(known))
    if unknown:
        allowed = f"It has: {', '.join(known)}." if known else "It has none."
        raise RequestError(f"{name} has no option '{unknown[0]}'. {allowed}")
    return kind(**options).model_dump() if kind else {}


def described(name: str, size_px: int | None, options: dict[str, Any]) -> str:
    """Say what is meant in one phrase: `mobilenet_v2 (96 px, alpha=0.35)`."""
    details = [f"{size_px} px"] if size_px else []
    details += [f"{key}={value}" for key, value in options.items()]
    return f"{name} ({', '.join(details)})" if details else name

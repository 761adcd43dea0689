"""Descriptions of backbones as data; the tables in `families/` consist of these classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urljoin

from annotated_types import Ge, Le

from kerastl import registry
from kerastl.errors import Problems, RequestError
from kerastl.image_size import Resize, Size, as_size, format_size
from kerastl.models.functional import TWO_LOGITS
from kerastl.models.hub_presets import resolve_preset_size

if TYPE_CHECKING:
    import keras

Pixels = Literal["minus_one_to_one", "minus_one_to_one_128", "bgr_minus_mean", "zero_to_one", "mean_and_std"]
"""Preprocessing inside the model, from RGB in [0, 255].

- minus_one_to_one: x / 127.5 - 1.
- minus_one_to_one_128: x / 128 - 1 (larger EfficientNetV2; 255 becomes 0.992).
- bgr_minus_mean: BGR minus the ImageNet means, not scaled (Caffe).
- zero_to_one: x / 255.
- mean_and_std: (x / 255 - mean) / std with the ImageNet statistics of each channel.
"""

WidthMultiplier = Annotated[float, Ge(0.1), Le(2)]
"""Factor of the number of channels of all layers; an option of some families."""

HEAD_LAYERS = (
    "class_token", "class_features", "patch_tokens", "patch_mean", "attention_pooling", "pooled", "head_dropout", "head",
    TWO_LOGITS,
)  # fmt: skip
"""Names of the layers and operations that `build_model` adds to a backbone."""
KERAS_TABLE = "https://keras.io/api/applications/"
"""Table of published top-1 accuracies on the ImageNet validation set."""
KERAS_FILES = "https://storage.googleapis.com/tensorflow/keras-applications"
"""Folder of the published weights."""


@dataclass(frozen=True)
class BlockSeries:
    """Consecutive blocks whose names follow a pattern; a single block if `each` is empty.

    Args:
        name: Name of the blocks, with `{}` for each member: `conv2_block{}`.
        edge: Name of the last layer of a block: `conv2_block{}_out`. `+` joins several layers whose outputs
            leave the block, `|` separates alternatives, of which the first one in the network counts: a
            narrow network has a residual sum where a wide one has none.
        each: Values of `{}`: a range, or letters such as `"abc"`.
    """

    name: str
    edge: str
    each: range | str = ""


@dataclass(frozen=True)
class Block:
    """A part of a network that is frozen, split off or cached as a whole.

    Args:
        name: Name in recipes: `trainable: {from_block: NAME}`.
        layers: Names of its layers, in the order of the model. The first block includes the input and its
            preprocessing.
        edge: Names of the layers whose outputs leave the block.
    """

    name: str
    layers: tuple[str, ...]
    edge: tuple[str, ...]


@dataclass(frozen=True)
class PublishedWeights:
    """A published pair of weights files, without and with the classification layer (top).

    Args:
        file: File name without top, in `$KERAS_HOME/models`.
        url: URL without top.
        hash: Published MD5 (32 hex digits) or SHA-256 (64); empty if none is published.
        top_file: File name with the 1,000-class top.
        top_url: URL with top.
        top_hash: Published hash with top.
        size_px: Side length of the training images, if files differ by it.
        options: Options of the family that the files belong to, e.g. `(("alpha", 0.35),)`.
    """

    file: str
    url: str
    hash: str
    top_file: str
    top_url: str
    top_hash: str
    size_px: int | None = None
    options: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def pair(
        cls, folder: str, stem: str, hashes: tuple[str, str], suffix: str = "_notop.h5", **fields: Any
    ) -> PublishedWeights:
        """Return the description of two files in one folder.

        Args:
            folder: Folder in `KERAS_FILES`, or the URL of another one.
            stem: File name with top, without `.h5`.
            hashes: Published hashes with and without top, in the order of keras.applications.
            suffix: End of the file name without top, after the stem.
            **fields: `size_px` and `options`.
        """
        file, top_file = stem + suffix, stem + ".h5"
        top_hash, file_hash = hashes
        url = urljoin(f"{KERAS_FILES}/", folder)
        return cls(file, f"{url}/{file}", file_hash, top_file, f"{url}/{top_file}", top_hash, **fields)


def tf_kernels(folder: str, network: str, hashes: tuple[str, str]) -> tuple[PublishedWeights, ...]:
    """Return the pair of files of a network in the naming scheme of Keras 2.

    Args:
        folder: As in `PublishedWeights.pair`.
        network: First part of the file names.
        hashes: As in `PublishedWeights.pair`.
    """
    return (PublishedWeights.pair(folder, f"{network}_weights_tf_dim_ordering_tf_kernels", hashes),)


@dataclass(frozen=True)
class Backbone:
    """A network that maps images to a feature map.

    Args:
        builder: Dotted name of the function that builds it.
        pixels: The preprocessing, which the model applies itself.
        parameters: Number of parameters without top, with default options.
        blocks: Its blocks, starting at the input.
        reference: The paper.
        image_size_px: Side length of the images that it was published for.
        min_size_px: Minimum side length.
        weights: Published weights; may be empty.
        top1: Published top-1 accuracy on ImageNet, 0 to 1; None if not published.
        top1_source: Where the accuracy is published.
        linear_top: Whether the published top is one linear layer on globally averaged features, so that the
            rows of its classes can initialize a new head.
        arguments: Fixed arguments of the builder, e.g. `(("include_preprocessing", False),)`.
    """

    builder: str
    pixels: Pixels
    parameters: int
    blocks: tuple[BlockSeries, ...]
    reference: str
    image_size_px: int = 224
    min_size_px: int = 32
    weights: tuple[PublishedWeights, ...] = ()
    top1: float | None = None
    top1_source: str = KERAS_TABLE
    linear_top: bool = True
    arguments: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True)
class LoadedBackbone:
    """A backbone and the origin of its weights.

    Args:
        model: The flat Keras model.
        weights_path: The weights file; None for random weights.
        notes: Remarks for the user, one line each.
        num_prefix_tokens: Number of class and register tokens before the tokens of the patches, 0 if there are none.
            None if the model does not return tokens, or their meaning is unknown.
        license: The license of the weights, as far as their source states one.
        resize: How the images that the weights were trained on were resized, as in `data.resize`; None if unknown.
    """

    model: keras.Model
    weights_path: Path | None
    notes: tuple[str, ...]
    num_prefix_tokens: int | None = None
    license: str | None = None
    resize: Resize | None = None


def list_backbones() -> dict[str, Backbone]:
    """Return all backbones by name, in alphabetical order."""
    return {name: get_backbone(name) for name in registry.names("backbone")}


def get_backbone(name: str) -> Backbone:
    """Return the description of a backbone.

    Raises:
        RequestError: If there is no such backbone, or it has its own weights.
    """
    if registry.has_own_weights(name):
        raise RequestError(f"No weights are published for {name}, because it contains its own.")
    backbone: Backbone = registry.module("backbone", name).BACKBONES[name]
    return backbone


def resolve_image_size(name: str, image_size_px: int | Size | None) -> Size:
    """Return (height, width) in pixels for a size or a side length; None means the published size.

    Raises:
        RequestError: If a side is below the minimum of the backbone.
    """
    if registry.has_own_weights(name):
        return resolve_preset_size(name, image_size_px)
    backbone = get_backbone(name)
    size = as_size(backbone.image_size_px if image_size_px is None else image_size_px)
    if min(size) < backbone.min_size_px:
        raise RequestError(
            f"{name} requires images of at least {backbone.min_size_px} x {backbone.min_size_px} pixels. Received {format_size(size, 'pixels')}."
        )
    return size


def resolve_options(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a family, with defaults filled in.

    Raises:
        RequestError: If the family has no such option.
        Problems: If the value of an option is not allowed.
    """
    options_class = registry.options_of("backbone", name)
    known = list(options_class.model_fields) if options_class else []
    unknown = sorted(set(options) - set(known))
    if unknown:
        allowed = f"Available options: {', '.join(known)}." if known else "It has no options."
        raise RequestError(f"{name} has no option '{unknown[0]}'. {allowed}")
    try:
        return options_class(**options).model_dump() if options_class else {}
    except Problems as error:
        raise Problems(name, error.problems) from None


def format_backbone(name: str, size_px: int | None, options: dict[str, Any]) -> str:
    """Format a backbone with its size and options, e.g. `mobilenet_v2 (96 px, alpha=0.35)`."""
    details = [f"{size_px} px"] if size_px else []
    details += [f"{key}={value}" for key, value in options.items()]
    return f"{name} ({', '.join(details)})" if details else name

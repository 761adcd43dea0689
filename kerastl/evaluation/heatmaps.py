"""Heatmaps of the parts of an image that a prediction is based on: Grad-CAM, and attention rollout for tokens.

A heatmap is `[h, w]` float32 in [0, 1] on a grid of equal cells over the image that the model takes. `Heatmap.on_image`
maps it to the original image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerastl.data.decode import decode_image, placement, resize_image
from kerastl.errors import RequestError, did_you_mean, quote
from kerastl.evaluation.trained_model import Trained
from kerastl.image_size import Resize, Size
from kerastl.models import has_single_logit, recorded_attention
from kerastl.options import checked

Method = Literal["grad_cam", "attention_rollout"]
Choice = Callable[[tf.Tensor], tf.Tensor]
"""Takes logits `[n, classes]`, and returns the index of the class to explain for each image, `[n]` int64."""
TOKEN_LAYERS = ("class_token", "patch_tokens")
"""The layers of `build_model` that select tokens, each followed by its part of the pooling."""
NO_HEATMAPS = "The export has no heatmaps (signature explain)"
MAX_ROUNDING = 1e-5
"""Difference between equal tokens, relative to the largest value."""
MAX_PREFIX_TOKENS = 16
"""Class and register tokens. The largest known number is 5."""


@dataclass(frozen=True)
class ModelParts:
    """A model that pools one feature map or one sequence of tokens, in two parts that share its layers and weights.

    Args:
        trunk: Images to the feature map `[n, h, w, channels]`, or to tokens `[n, tokens, channels]`.
        head: The feature map or the tokens to logits, and to the pooled features `[n, features]`.
        grid: Rows and columns of the patches behind the tokens; None for a feature map, or if they are unknown.
        has_class_token: Whether the first token is pooled on its own.
        num_pooled_tokens: Number of tokens at the end of the sequence that are pooled together; 0 for none.
    """

    trunk: keras.Model
    head: keras.Model
    grid: Size | None
    has_class_token: bool = False
    num_pooled_tokens: int = 0

    @property
    def num_tokens(self) -> int | None:
        """Number of tokens; None for a feature map, or if it is unknown."""
        shape = self.trunk.output_shape
        return shape[1] if len(shape) == 3 else None

    @cached_property
    def scores(self) -> Literal["complete", "incomplete", "misplaced"]:
        """Whether the known attention scores describe all exchange of information between tokens.

        Without attention, a token must depend on its own patch only. `misplaced` means that it depends on another patch.
        """
        if self.grid is None or self.num_tokens is None:
            return "incomplete"
        height, width, _ = self.trunk.input_shape[1:]
        row, column = self.grid[0] // 2, self.grid[1] // 3
        patch = tuple(
            slice(int((cell + 0.25) * side / cells), int((cell + 0.75) * side / cells) + 1)
            for cell, side, cells in zip((row, column), (height, width), self.grid, strict=True)
        )
        images = np.random.default_rng(0).uniform(0, 255, (1, height, width, 3)).repeat(2, axis=0)
        images[1][patch] = 255 - images[1][patch]
        with recorded_attention(self.trunk, is_silent=True) as recorded:
            tokens = np.asarray(self.trunk(images.astype(np.float32), training=False), np.float64)
        square = (self.num_tokens, self.num_tokens)
        differs = np.abs(tokens[0] - tokens[1]).max(axis=-1) > MAX_ROUNDING * np.abs(tokens).max()
        if (
            not recorded
            or any(tuple(scores.shape[2:]) != square for scores in recorded)
            or differs.sum() != 1
        ):
            return "incomplete"
        first_patch = self.num_tokens - math.prod(self.grid)
        is_own = differs[first_patch + row * self.grid[1] + column]
        return "complete" if is_own else "misplaced"

    @cached_property
    def problem(self) -> str:
        """Why there are no heatmaps; empty if there are."""
        if len(self.trunk.output_shape) == 4:
            return ""
        if self.grid is None or self.scores == "misplaced":
            return "the rows and columns of its patches are unknown"
        if not self.num_pooled_tokens and self.scores == "incomplete":
            return "it pools the class token, and its attention scores are unknown"
        return ""

    @property
    def method(self) -> Method:
        """The method of `explain`."""
        return "attention_rollout" if self.scores == "complete" else "grad_cam"


def split_at_pooling(model: keras.Model) -> ModelParts | None:
    """Return the parts of a model; None if it does not pool one feature map or sequence of tokens to one vector.

    Args:
        model: A functional model, such as those of `build_model`.
    """
    layers = getattr(model, "layers", ())
    names = {layer.name: layer for layer in layers if isinstance(layer, keras.layers.Layer)}
    readers = [names[name] for name in TOKEN_LAYERS if isinstance(names.get(name), keras.layers.Cropping1D)]
    pooling = [layer for layer in layers if _pools(layer)]
    if not (pooling or (readers and "pooled" in names)):
        return None
    try:
        maps = (readers or pooling[-1:])[0].input
        features = (names["pooled"] if readers else pooling[-1]).output
        num_pooled = pooling[-1].input.shape[1] if pooling and len(maps.shape) == 3 else 0
        trunk = keras.Model(model.input, maps)
        head = keras.Model(maps, [model.outputs[0], features])
        keras.Model(features, model.outputs[0])
    except (ValueError, KeyError, AttributeError):
        return None  # a connection bypasses the pooling, or the pooling is called twice
    grid = _grid_of_patches(trunk) if len(maps.shape) == 3 else None
    return ModelParts(trunk, head, grid, "class_token" in {layer.name for layer in readers}, num_pooled)


def heatmap_problem(model: keras.Model) -> str:
    """Return why there are no heatmaps for a model, or an empty string."""
    parts = split_at_pooling(model)
    return "it does not pool one feature map or one sequence of tokens" if parts is None else parts.problem


def _pools(layer: Any) -> bool:
    kinds = (
        keras.layers.GlobalAveragePooling1D, keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D,
    )  # fmt: skip
    if type(layer).__name__ == "SigLIPMultiHeadAttentionPooling":
        return True
    return isinstance(layer, kinds) and not layer.keepdims


def _grid_of_patches(trunk: keras.Model) -> Size | None:
    """Return the rows and columns of the patches behind tokens; None if they are unknown.

    If the windows of the first convolution do not overlap, the patches are its windows, provided that there is a token for
    each. Otherwise, they are a square, with or without one class token.
    """
    height, width, _ = trunk.input_shape[1:]
    num_tokens = trunk.output_shape[1]
    if num_tokens is None:
        return None
    convolutions = [layer for layer in trunk._flatten_layers() if isinstance(layer, keras.layers.Conv2D)]
    if convolutions and tuple(convolutions[0].kernel_size) == tuple(convolutions[0].strides):
        rows, columns = (
            side // step for side, step in zip((height, width), convolutions[0].strides, strict=True)
        )
        return (rows, columns) if 0 <= num_tokens - rows * columns <= MAX_PREFIX_TOKENS else None
    side = math.isqrt(num_tokens)
    return (side, side) if height == width and num_tokens - side * side <= 1 else None


def explain(
    parts: ModelParts,
    images: tf.Tensor,
    choose: Choice,
    trunk: Callable[[tf.Tensor], tf.Tensor] | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the evidence of each cell for a class, before it is scaled, and the index of that class.

    For tokens whose attention is known, it is the attention rollout from the pooled features to the patches, which is the
    same for all classes. Otherwise, it is Grad-CAM of the chosen class on the last feature map or on the last tokens.

    Args:
        parts: The parts of a model, whose `problem` is empty.
        images: `[n, height, width, 3]` float32 in [0, 255].
        choose: Chooses the class.
        trunk: Used for Grad-CAM instead of `parts.trunk`, which it must equal.

    Returns:
        `[n, h, w]` float32, at least 0, and `[n]` int64.

    References:
        Selvaraju et al. 2017, arXiv:1610.02391, equations 1 and 2; Abnar & Zuidema 2020, arXiv:2005.00928, section 3.
    """
    if parts.method == "attention_rollout":
        return _attention_rollout(parts, images, choose)
    maps = trunk(images) if trunk else parts.trunk(images, training=False)
    return _grad_cam(parts, tf.cast(maps, tf.float32), choose)


def _grad_cam(parts: ModelParts, maps: tf.Tensor, choose: Choice) -> tuple[tf.Tensor, tf.Tensor]:
    with tf.GradientTape() as tape:
        tape.watch(maps)
        logits, _ = parts.head(maps, training=False)
        labels = choose(logits)
        if has_single_logit(parts.head):  # the constant logit has no gradient
            logits -= tf.reduce_mean(logits, axis=-1, keepdims=True)
        score = tf.reduce_sum(tf.gather(logits, labels, axis=1, batch_dims=1))
    gradients, maps = (_on_grid(parts, values) for values in (tape.gradient(score, maps), maps))
    weights = tf.reduce_mean(gradients, axis=[1, 2], keepdims=True)
    return tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1)), labels


def _on_grid(parts: ModelParts, maps: tf.Tensor) -> tf.Tensor:
    """Return feature maps, or the tokens of the patches as feature maps `[n, h, w, channels]`."""
    if parts.num_tokens is None:
        return maps
    assert parts.grid is not None
    rows, columns = parts.grid
    return tf.reshape(maps[:, parts.num_tokens - rows * columns :], [-1, rows, columns, maps.shape[-1]])


def _attention_rollout(parts: ModelParts, images: tf.Tensor, choose: Choice) -> tuple[tf.Tensor, tf.Tensor]:
    with recorded_attention(parts.trunk) as scores, recorded_attention(parts.head) as pooling_scores:
        logits, _ = parts.head(parts.trunk(images, training=False), training=False)
    rollout = _pooling_weights(parts, pooling_scores)
    for layer in reversed(scores):
        attention = tf.reduce_mean(tf.cast(layer, tf.float32), axis=1)
        # Half for the residual connection, which is the identity.
        rollout = (rollout + tf.matmul(rollout[:, None], attention)[:, 0]) / 2
    return _on_grid(parts, rollout[..., None])[..., 0], choose(logits)


def _pooling_weights(parts: ModelParts, scores: Sequence[tf.Tensor]) -> tf.Tensor:
    """Return the share of each token in the pooled features, `[1, tokens]` or `[n, tokens]` float32, which sum to 1.

    Args:
        parts: The parts of a model of tokens.
        scores: The attention scores of multihead attention pooling; empty without it.
    """
    assert parts.num_tokens is not None
    weights = []
    if parts.has_class_token:
        weights.append(tf.one_hot([0], parts.num_tokens))
    if parts.num_pooled_tokens:
        shares = tf.fill([1, parts.num_pooled_tokens], 1 / parts.num_pooled_tokens)
        if scores:
            shares = tf.reduce_mean(tf.cast(scores[-1], tf.float32), axis=1)[:, 0]
        weights.append(tf.pad(shares, [[0, 0], [parts.num_tokens - parts.num_pooled_tokens, 0]]))
    return tf.add_n(weights) / len(weights)


def scale_heatmaps(evidence: tf.Tensor, before: tf.Tensor, inner: tf.Tensor, size: Size) -> tf.Tensor:
    """Return heatmaps in [0, 1], where 1 is the strongest evidence in the image, and all 0 if there is none.

    Cells that lie wholly in the padding are 0.

    Args:
        evidence: `[n, h, w]` float32, at least 0.
        before, inner: Where each image is in the image that the model takes, `[n, 2]` int32, as in `Placement`.
        size: Height and width of the image that the model takes.
    """
    for axis in (0, 1):
        cells = tf.shape(evidence)[axis + 1]
        start = before[:, axis, None] * cells
        end = start + inner[:, axis, None] * cells
        edges = tf.range(cells + 1) * size[axis]
        is_image = (edges[1:] > start) & (edges[:-1] < end)
        evidence *= tf.cast(tf.expand_dims(is_image, 2 - axis), evidence.dtype)
    return tf.math.divide_no_nan(evidence, tf.reduce_max(evidence, axis=[1, 2], keepdims=True))


@dataclass(frozen=True)
class Heatmap:
    """The heatmap of one image.

    Args:
        values: `[h, w]` float32 in [0, 1].
        class_name: The class that is explained. Attention rollout is the same for all classes.
        image_shape: (height, width) of the original image, upright, in pixels.
        image_size_px: (height, width) of the image that the model takes.
        resize: How the original image was resized.
    """

    values: npt.NDArray[np.float32]
    class_name: str
    image_shape: Size
    image_size_px: Size
    resize: Resize

    def on_image(self) -> npt.NDArray[np.float32]:
        """Return the heatmap on the pixels of the original image: `[height, width]` float32 in [0, 1].

        It is interpolated bilinearly between the centers of the cells of the image, without those of the padding. What
        `crop` cuts off is NaN, because the model does not receive it.
        """
        return (self._weights(0) @ self.values @ self._weights(1).T).astype(np.float32)

    def _weights(self, axis: int) -> npt.NDArray[np.float32]:
        """Return the weights `[length, cells]` of the cells for each row (axis 0) or column of the original image."""
        first, window, before, inner = (
            int(sides[axis]) for sides in placement(self.image_shape, self.image_size_px, self.resize)
        )
        cells, size = self.values.shape[axis], self.image_size_px[axis]
        offsets = np.arange(self.image_shape[axis]) + 0.5 - first
        positions = (before + offsets * inner / window) * cells / size - 0.5
        lowest, highest = before * cells // size, ((before + inner) * cells - 1) // size
        positions = np.clip(positions, lowest, highest)
        weights = np.maximum(0.0, 1.0 - np.abs(positions[:, None] - np.arange(cells)))
        weights[(offsets < 0) | (offsets > window)] = np.nan
        return weights.astype(np.float32)


@checked
def explain_images(
    trained: Trained, encoded: Sequence[bytes], *, class_name: str | None = None
) -> list[Heatmap]:
    """Return a heatmap of each image for the predicted class, as the signature `explain` of an export does.

    Args:
        trained: The model of a run, from `load_trained`.
        encoded: The bytes of image files.
        class_name: A class to explain instead of the predicted one. Only possible with Grad-CAM.

    Raises:
        RequestError: There are no heatmaps for this model, or none for each class, or the class is unknown.
        tf.errors.InvalidArgumentError: An image cannot be decoded.

    Example:
        >>> trained = kerastl.evaluation.load_trained(Path("runs/mine"))
        >>> heatmap, = explain_images(trained, [Path("cat.jpg").read_bytes()])
        >>> heatmap.class_name, heatmap.on_image().shape
        ('cat', (480, 640))
    """
    names, size, resize = trained.class_names, trained.image_size_px, trained.resize
    parts = split_at_pooling(trained.model)
    if parts is None or parts.problem:
        raise RequestError(f"There are no heatmaps for this model: {heatmap_problem(trained.model)}.")
    if class_name is not None and class_name not in names:
        hint = did_you_mean(class_name, names)
        raise RequestError(f"class_name: unknown class {quote(class_name)}. {hint}")
    if class_name is not None and parts.method == "attention_rollout":
        raise RequestError("class_name: attention rollout is the same for all classes. Remove class_name=.")

    def choose(logits: tf.Tensor) -> tf.Tensor:
        return tf.argmax(logits, axis=-1) if class_name is None else tf.constant([names.index(class_name)])

    heatmaps = []
    for content in encoded:
        image = decode_image(content, window=trained.window, max_pixels=trained.max_pixels)
        shape = (int(image.shape[0]), int(image.shape[1]))
        shown = placement(shape, size, resize)
        evidence, labels = explain(parts, resize_image(image, size, resize)[None], choose)
        values = scale_heatmaps(evidence, shown.before[None], shown.inner[None], size)
        heatmaps.append(Heatmap(values[0].numpy(), names[int(labels[0])], shape, size, resize))
    return heatmaps

"""Example images of an augmentation policy: the extremes of each operation, and random samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerastl import registry
from kerastl.augment.mixer import build_mixing
from kerastl.augment.operation import BuiltOperation
from kerastl.augment.operation_options import Extreme, Operation, Quantile, range_ends
from kerastl.augment.policy import build_policy
from kerastl.augment.stateless_random import FLOAT32_STEPS, StatelessGenerator

MAX_QUANTILE = (FLOAT32_STEPS - 1) / FLOAT32_STEPS
"""The largest number that is drawn from [0, 1)."""
MIN_SHOWN_WEIGHT = 0.005
"""A class with a smaller label weight is not named."""
POLICY_TITLE = "all operations"
"""Title of the block with the whole policy."""

Pixels = npt.NDArray[np.uint8]
Images = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int32]
"""Class indices or seeds."""


@dataclass(frozen=True)
class Block:
    """Original images and their augmented versions, one image per row.

    Args:
        title: Name of the operation, or `POLICY_TITLE`.
        strength: The options as text; may be empty.
        note: A remark; may be empty.
        columns: Column titles; the first column holds the originals.
        images: `[rows, columns, height, width, channels]` uint8.
        captions: One caption per image, `[rows][columns]`; may be empty.
    """

    title: str
    strength: str
    note: str
    columns: tuple[str, ...]
    images: Pixels
    captions: tuple[tuple[str, ...], ...] = ()


def operation_block(operation: Operation, images: Images, seeds: Integers) -> Block:
    """Return a block with the extremes and random samples of one operation.

    Args:
        operation: (name, options).
        images: `[batch, height, width, channels]` float32 in [0, 255].
        seeds: `[samples, batch, 2]` int32.
    """
    name, options = operation
    # Layer by layer: compiling each operation would take longer than applying it, and the images agree to 0.01 of 255.
    policy = build_policy([operation], image_size_px=images.shape[1:3], channels=images.shape[3], exact=True)
    extremes = [
        (extreme.description, _at_extreme(operation, extreme, images, seeds))
        for extreme in _extremes(name, options)
    ]
    note = _note(policy.lowering[0][1], options)
    samples = [policy(images, sample_seeds) for sample_seeds in seeds]
    return _block(name, format_options(options), images, samples, extremes=extremes, note=note)


def policy_block(
    operations: Sequence[Operation], images: Images, seeds: Integers, *, exact: bool = False
) -> Block:
    """Return a block with random samples of a policy; arguments as in `operation_block` and `build_policy`."""
    policy = build_policy(operations, image_size_px=images.shape[1:3], channels=images.shape[3], exact=exact)
    names = ", ".join(name for name, _ in operations)
    return _block(POLICY_TITLE, names, images, [policy(images, sample_seeds) for sample_seeds in seeds])


def mixing_block(
    mixing: Operation, images: Images, labels: Integers, seeds: Integers, *, class_names: Sequence[str]
) -> Block:
    """Return a block with random samples of one mixing, captioned with the label weights.

    Args:
        mixing: (name, options).
        images: `[batch, height, width, channels]` float32 in [0, 255].
        labels: `[batch]` int32 class indices.
        seeds: `[samples, batch, 2]` int32.
        class_names: Names of the classes in index order.
    """
    name, options = mixing
    mix = build_mixing(
        [mixing], image_size_px=images.shape[1:3], channels=images.shape[3], num_classes=len(class_names)
    )
    samples = [mix(images, labels, sample_seeds) for sample_seeds in seeds]
    captions = [[_label_caption(row, class_names) for row in weights.numpy()] for _, weights in samples]
    return _block(
        name, format_options(options), images, [mixed for mixed, _ in samples],
        note="Each image is mixed with another image shown here; in training, with one of its batch.",
        captions=tuple(zip([class_names[label] for label in labels], *captions, strict=True)),
    )  # fmt: skip


def _block(
    title: str, strength: str, images: Any, samples: Sequence[Any], *,
    extremes: Sequence[tuple[str, Any]] = (), note: str = "", captions: tuple[tuple[str, ...], ...] = (),
) -> Block:  # fmt: skip
    """Return a block of the original images, the titled extremes, and the random samples."""
    numbered = ((f"sample {number}", sample) for number, sample in enumerate(samples, 1))
    titles, columns = zip(("original", images), *extremes, *numbered, strict=True)
    return Block(title, strength, note, titles, to_pixels(columns), captions)


def format_options(options: Any) -> str:
    """Format the options that differ from their defaults, e.g. `max_deg 15, model linear`."""
    changed = () if options is None else options.__repr_args__()
    return ", ".join(f"{name} {_format_value(value)}" for name, value in changed)


def _format_value(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_format_value, value))})"
    if isinstance(value, float):
        return f"{value:g}"
    if hasattr(value, "options"):  # a nested operation
        return f"{value.name} {format_options(value.options)}".rstrip()
    return str(value)


def _extremes(name: str, options: Any) -> list[Extreme]:
    """Return the extremes of an operation; none if it contains others, both ends of all ranges by default."""
    if hasattr(options, "operations"):
        return []
    extremes = getattr(registry.module("operation", name), "extremes", None)
    return extremes(options) if extremes else range_ends("lower end", "upper end")


def _note(lowering: str, options: Any) -> str:
    if lowering == "identity":
        return "These options leave every image unchanged."
    probability = float(options.apply_probability)
    return f"Applied to {100 * probability:g}% of the images." if probability < 1 else ""


def _label_caption(weights: npt.NDArray[np.float32], class_names: Sequence[str]) -> str:
    order = np.argsort(-weights, kind="stable")
    shown = [index for index in order if weights[index] >= MIN_SHOWN_WEIGHT]
    return ", ".join(f"{100 * weights[index]:.0f}% {class_names[index]}" for index in shown)


def to_pixels(columns: Sequence[Any]) -> Pixels:
    """Return columns of images in [0, 255], each `[rows, height, width, channels]`, as the `images` of a `Block`."""
    stacked = np.stack([np.asarray(column, np.float32) for column in columns], axis=1)
    return np.round(np.clip(stacked, 0, 255)).astype(np.uint8)


def _at_extreme(operation: Operation, extreme: Extreme, images: Images, seeds: Integers) -> Images:
    """Return the images at one extreme of an operation, regardless of its probability."""
    name, options = operation
    if getattr(options, "apply_probability", 0.0):
        options = options.model_copy(update={"apply_probability": 1.0})
    built = BuiltOperation(0, name, options, images.shape[1:3])
    image_seeds = seeds[0] if len(seeds) else np.zeros((len(images), 2), np.int32)
    generator = FixedGenerator(tf.constant(image_seeds), extreme.quantiles, extreme.rest)
    batch = tf.constant(images)
    return built.apply(batch, built.sample(generator, batch)).numpy()


class FixedGenerator(StatelessGenerator):
    """A generator that returns chosen quantiles instead of random numbers.

    Args:
        seeds: `[batch, 2]` int32, for the numbers that stay random.
        quantiles: Quantiles of the first numbers, in order.
        rest: Quantile of all further numbers.
    """

    def __init__(self, seeds: tf.Tensor, quantiles: Sequence[Quantile], rest: Quantile) -> None:
        super().__init__(seeds, 0)
        self._quantiles, self._rest = list(quantiles), rest

    def uniform(
        self, shape: Sequence[Any], minval: float = 0.0, maxval: float = 1.0, dtype: Any = tf.float32
    ) -> tf.Tensor:
        """Return the next numbers, at their quantile or random."""
        index = self._num_calls
        random = super().uniform(shape, minval, maxval, dtype)
        quantile = self._quantiles[index] if index < len(self._quantiles) else self._rest
        if quantile is None:
            return random
        unit = np.minimum(np.asarray(quantile, np.float32), np.float32(MAX_QUANTILE))
        return tf.broadcast_to(tf.cast(minval + (maxval - minval) * unit, dtype), tf.shape(random))

"""Phases of training; recipes and Python share these classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Protocol

import keras
import numpy as np
import tensorflow as tf

from kerastl.models import LINEAR
from kerastl.recipe.phase import (
    BatchNorm,
    BlockRate,
    Cache,
    FromBlock,
    LayerNames,
    Phase,
    TopFraction,
    Trainable,
    Unfreeze,
)

__all__ = [
    "BatchNorm",
    "BlockRate",
    "Cache",
    "FromBlock",
    "LayerNames",
    "Phase",
    "TopFraction",
    "Trainable",
    "Unfreeze",
]


Array = np.ndarray[Any, Any]
Column = tuple[Any, tuple[int, ...]]
Precision = Literal["float32", "bfloat16", "uint8"]


class Encoding(Protocol):
    """One way of keeping a tensor: some columns of numbers, a row an image."""

    def columns(self, shape: tuple[int, ...]) -> list[Column]:
        """Return the dtype and the shape that each column has for one image."""

    def encode(self, values: Array) -> list[Array]:
        """Return the columns of `[batch, *shape]` float32."""

    def decode(self, rows: Sequence[Array]) -> Array:
        """Return `[batch, *shape]` float32 from rows of the columns."""


class _Float32:
    def columns(self, shape: tuple[int, ...]) -> list[Column]:
        return [(np.float32, shape)]

    def encode(self, values: Array) -> list[Array]:
        return [values]

    def decode(self, rows: Sequence[Array]) -> Array:
        return np.ascontiguousarray(rows[0])


class _BFloat16:
    """The upper half of a float32, rounded to even: all of its range, three digits."""

    def columns(self, shape: tuple[int, ...]) -> list[Column]:
        return [(np.uint16, shape)]

    def encode(self, values: Array) -> list[Array]:
        return [values.astype(tf.bfloat16.as_numpy_dtype).view(np.uint16)]

    def decode(self, rows: Sequence[Array]) -> Array:
        return rows[0].view(tf.bfloat16.as_numpy_dtype).astype(np.float32)


class _UInt8:
    """256 even steps between the lowest and the highest value of each channel of each image."""

    def columns(self, shape: tuple[int, ...]) -> list[Column]:
        return [(np.uint8, shape), (np.float32, (2, shape[-1]))]

    def encode(self, values: Array) -> list[Array]:
        flat = values.reshape(len(values), -1, values.shape[-1])
        low, high = flat.min(axis=1), flat.max(axis=1)
        step = (high - low) / np.float32(255)
        # A channel of one value is its lowest: whatever it is divided by.
        divisor = np.where(step > 0, step, 1)[:, None]
        steps = np.rint((flat - low[:, None]) / divisor).clip(0, 255).astype(np.uint8)
        return [steps.reshape(values.shape), np.stack([low, step], axis=1)]

    def decode(self, rows: Sequence[Array]) -> Array:
        steps, ranges = rows
        flat = steps.reshape(len(steps), -1, steps.shape[-1]).astype(np.float32)
        low, step = ranges[:, 0, None], ranges[:, 1, None]
        decoded: Array = (low + flat * step).reshape(steps.shape)
        return decoded


ENCODINGS: dict[Precision, Encoding] = {"float32": _Float32(), "bfloat16": _BFloat16(), "uint8": _UInt8()}


def bytes_per_image(shapes: Sequence[tuple[int, ...]], precision: Precision) -> int:
    """Return what one image takes on disk.

    Args:
        shapes: of one image's activations, one a tensor.
        precision: how they are kept.
    """
    columns = [column for shape in shapes for column in ENCODINGS[precision].columns(shape)]
    return sum(np.dtype(dtype).itemsize * int(np.prod(shape)) for dtype, shape in columns)


StepPrecision = Literal["float32", "mixed_bfloat16"]
IN_FULL = (keras.layers.GlobalAveragePooling2D, keras.layers.InputLayer)
"""Sums over many numbers; what hands on what it got."""


@contextmanager
def computing_in_precision(precision: StepPrecision, model: keras.Model) -> Iterator[None]:
    """Let what learns be traced in another precision; afterwards every layer is as it was.

    As Keras's policy `mixed_bfloat16` does it (Micikevicius et al. 2018, arXiv:1710.03740, section 3.1; bfloat16 has the range
    of float32, so no loss needs a scale: Kalamkar et al. 2019, arXiv:1905.12322), with two differences: pixels are scaled in full,
    and only the training step is traced so, so that figures of validation are those of the float32 network that is saved.

    Args:
        precision: `float32` changes nothing.
        model: that a phase runs: flat, or a frozen front (which keeps its own precision) and a last part.
    """
    layers = [] if precision == "float32" else _that_follow(model)
    before = [layer.dtype_policy for layer in layers]
    try:
        for layer in layers:
            layer.dtype_policy = keras.DTypePolicy(precision)
        yield
    finally:
        for layer, policy in zip(layers, before, strict=True):
            layer.dtype_policy = policy


def _that_follow(model: keras.Model) -> list[Any]:
    """Return the layers of what learns, from its first that multiplies on, without the head."""
    last = model.layers[-1]
    layers = last.layers if isinstance(last, keras.Model) else model.layers
    first = next((at for at, one in enumerate(layers) if _multiplies(one)), len(layers))
    return [
        part
        for layer in layers[first:]
        if not isinstance(layer, IN_FULL) and layer.name != "head"
        for part in layer._flatten_layers()
    ]


def _multiplies(layer: Any) -> bool:
    """Tell whether a layer is linear, or stands for one that is."""
    return isinstance(getattr(layer, "layer", layer), LINEAR)

"""Pictures as operations change them, beside what they were: at the ends of each operation, and samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerastl.augment.draws import FLOAT32_STEPS, Draws
from kerastl.augment.ends import End, Place, ends_of, options_in_words
from kerastl.augment.mixer import build_mixing
from kerastl.augment.named import Operation
from kerastl.augment.operation import BuiltOperation
from kerastl.augment.policy import build_policy

HIGHEST = (FLOAT32_STEPS - 1) / FLOAT32_STEPS
"""The largest number that is ever drawn from [0, 1)."""
SMALLEST_SHARE = 0.005
"""Share of a label below which its class is not named."""

TOGETHER = "all operations"
"""Title of the block in which they are done one after the other."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Block:
    """Some pictures, one a row, and what becomes of them, one way a column.

    Args:
        title: the operation, or what else is shown.
        strength: its options in words; may be empty.
        note: what else must be known; may be empty.
        columns: heads of the columns; the first is the original.
        pictures: `[rows, columns, size, size, channels]` uint8, 0 to 255.
        captions: one for each picture, `[rows][columns]`; empty where there are none.
    """

    title: str
    strength: str
    note: str
    columns: tuple[str, ...]
    pictures: Pixels
    captions: tuple[tuple[str, ...], ...] = ()


def operation_block(
    operation: Operation, images: npt.NDArray[np.float32], seeds: npt.NDArray[np.int32]
) -> Block:
    """Return pictures under one operation: at its ends, and samples as training draws them.

    Args:
        operation: (name, options).
        images: `[batch, size, size, channels]` float32 in [0, 255].
        seeds: `[samples, batch, 2]` int32.
    """
    name, options = operation
    ends = ends_of(name, options)
    shown = [images, *(_at(operation, end, images, seeds) for end in ends)]
    # Layer by layer: to compile each of them would take longer than to draw it, and a picture is the same to 0.01 of 255.
    policy = build_policy(
        [operation], image_size_px=images.shape[1], channels=images.shape[3], exact=True
    )
    shown += [policy(images, one).numpy() for one in seeds]
    columns = ("original", *(end.words for end in ends), *_sample_heads(seeds))
    return Block(
        name,
        options_in_words(options),
        _note(policy.lowering[0][1], options),
        columns,
        _pixels(shown),
    )


def policy_block(
    operations: Sequence[Operation],
    images: npt.NDArray[np.float32],
    seeds: npt.NDArray[np.int32],
    *,
    exact: bool = False,
) -> Block:
    """Return pictures under all operations together; arguments as in `operation_block` and `build_policy`."""
    policy = build_policy(
        operations, image_size_px=images.shape[1], channels=images.shape[3], exact=exact
    )
    shown = [images, *(policy(images, one).numpy() for one in seeds)]
    names = ", ".join(name for name, _ in operations)
    return Block(TOGETHER, names, "", ("original", *_sample_heads(seeds)), _pixels(shown))


def mixing_block(
    mixing: Operation,
    images: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int32],
    seeds: npt.NDArray[np.int32],
    *,
    class_names: Sequence[str],
) -> Block:
    """Return pictures mixed with one another, with the shares of their labels.

    Args:
        mixing: (name, options).
        images: `[batch, size, size, channels]` float32 in [0, 255].
        labels: `[batch]` int32, class numbers.
        seeds: `[samples, batch, 2]` int32.
        class_names: in the order of the class numbers.
    """
    name, options = mixing
    mix = build_mixing(
        [mixing],
        image_size_px=images.shape[1],
        channels=images.shape[3],
        num_classes=len(class_names),
    )
    mixed = [mix(images, labels, one) for one in seeds]
    told = [[_shares(row, class_names) for row in shares.numpy()] for _, shares in mixed]
    first = [class_names[label] for label in labels]
    note = "Each picture is mixed with another one of those shown; in training, of its batch."
    return Block(
        name, options_in_words(options), note, ("original", *_sample_heads(seeds)),
        _pixels([images, *(pictures.numpy() for pictures, _ in mixed)]),
        tuple(zip(first, *told, strict=True)),
    )  # fmt: skip


def _sample_heads(seeds: npt.NDArray[np.int32]) -> list[str]:
    return [f"sample {number}" for number in range(1, len(seeds) + 1)]


def _note(lowering: str, options: Any) -> str:
    if lowering == "nothing":
        return "With these options it changes nothing."
    share = float(getattr(options, "apply_probability", 1.0))
    return (
        f"Changes {100 * share:g} % of the pictures; the others stay as they are."
        if share < 1
        else ""
    )


def _shares(row: npt.NDArray[np.float32], class_names: Sequence[str]) -> str:
    order = sorted(range(len(row)), key=lambda place: -row[place])
    named = [place for place in order if row[place] >= SMALLEST_SHARE]
    return ", ".join(f"{100 * row[place]:.0f} % {class_names[place]}" for place in named)


def _pixels(shown: Sequence[Any]) -> Pixels:
    stacked = np.stack([np.asarray(one, np.float32) for one in shown], axis=1)
    return np.round(np.clip(stacked, 0, 255)).astype(np.uint8)


def _at(
    operation: Operation,
    end: End,
    images: npt.NDArray[np.float32],
    seeds: npt.NDArray[np.int32],
) -> npt.NDArray[np.float32]:
    """Return the pictures at one end of an operation, whatever its probability."""
    name, options = operation
    if getattr(options, "apply_probability", 0.0):
        options = options.model_copy(update={"apply_probability": 1.0})
    one = BuiltOperation(0, name, options, images.shape[1])
    first = seeds[0] if len(seeds) else np.zeros((len(images), 2), np.int32)
    pictures = tf.constant(images)
    drawn = one.draw(PlacedDraws(tf.constant(first), end.places, end.rest), pictures)
    changed: npt.NDArray[np.float32] = one.apply(pictures, drawn).numpy()
    return changed


class PlacedDraws(Draws):
    """Stands for draws some of which lie at chosen places of their range.

    Args:
        seeds: `[batch, 2]` int32, for those at random.
        places: of the draws, in their order.
        rest: of all draws behind these.
    """

    def __init__(self, seeds: tf.Tensor, places: Sequence[Place], rest: Place) -> None:
        super().__init__(seeds, 0)
        self._places, self._rest = list(places), rest

    def uniform(
        self,
        shape: Sequence[Any],
        minval: float = 0.0,
        maxval: float = 1.0,
        dtype: Any = tf.float32,
    ) -> tf.Tensor:
        """Return the next numbers: at their place, or random as in `Draws`."""
        drawn = super().uniform(shape, minval, maxval, dtype)
        place = self._places[self._draw - 1] if self._draw <= len(self._places) else self._rest
        if place is None:
            return drawn
        share = np.minimum(np.asarray(place, np.float32), np.float32(HIGHEST))
        return tf.broadcast_to(tf.cast(minval + (maxval - minval) * share, dtype), tf.shape(drawn))

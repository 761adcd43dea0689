"""From operations in a row to few passes over the pictures.

Neighbours that move pixels become one affine map and one warp; neighbours that change colours become a function
that XLA compiles, in which saturation and hue share one conversion. All numbers are drawn outside: drawn inside, XLA
would give others. What cannot be lowered runs as keras-cv's layer, at its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import tensorflow as tf

from kerastl.augment.affine import product
from kerastl.augment.colours import Pass, one_colour_pass
from kerastl.augment.operation import BuiltOperation, Drawn
from kerastl.augment.warp import look_up, neighbours, resample

WARP, COLOUR, LAYER = "warp", "colour", "layer"


class Compiled:
    """What `compiled` returns: a function `(images, drawn) -> images`, or its two halves one after the other.

    Args:
        passes: in their order, each with the places of its operations among all.
    """

    def __init__(self, passes: Sequence[tuple[Pass, Sequence[int]]]) -> None:
        self._passes = passes

    def __call__(self, images: tf.Tensor, drawn: Sequence[Drawn]) -> tf.Tensor:
        """Return the changed pictures."""
        return self.change(images, self.prepare(drawn))

    def prepare(self, drawn: Sequence[Drawn]) -> list[Any]:
        """Return what the passes ask for: small tensors, rows by example.

        Args:
            drawn: what each operation drew, in their order.
        """
        return [one.prepare([drawn[at] for at in places]) for one, places in self._passes]

    def change(self, images: tf.Tensor, prepared: Sequence[Any]) -> tf.Tensor:
        """Return the changed pictures; of each, `prepared` has one row."""
        for (one, _), numbers in zip(self._passes, prepared, strict=True):
            images = tf.ensure_shape(one.change(images, numbers), images.shape)
        return images


def compiled(operations: Sequence[BuiltOperation]) -> Compiled:
    """Return a function that does all operations.

    Args:
        operations: in their order.

    Returns:
        `run(images, drawn) -> images`; drawn is what each operation drew, in the same order.
    """
    passes: list[tuple[Pass, list[int]]] = []
    for kind, places in _passes(operations):
        members = [operations[place] for place in places]
        if kind == WARP and all(one.compiles for one in members):
            # Mirrors alone: XLA's own reversal is quicker than a warp.
            kind = COLOUR
        passes.append((MAKERS[kind](members), places))
    return Compiled(passes)


def _passes(operations: Sequence[BuiltOperation]) -> list[tuple[str, list[int]]]:
    """Return (kind, places) of what is done in one pass."""
    passes: list[tuple[str, list[int]]] = []
    filled: str | None = None
    for place, one in enumerate(operations):
        if one.lowering == "nothing":
            continue
        kind = {"folded": WARP, "layer": LAYER}.get(one.lowering, COLOUR)
        joins = bool(passes) and passes[-1][0] == kind != LAYER
        # What never looks outside of the picture, as a mirror, joins a warp that fills the outside in any way.
        if joins and kind == WARP and None not in (filled, one.fill_mode):
            joins = filled == one.fill_mode
        if joins:
            passes[-1][1].append(place)
        else:
            passes.append((kind, [place]))
            filled = None
        filled = filled or one.fill_mode
    return passes


def _one_warp(members: Sequence[BuiltOperation]) -> Pass:
    # Windows alone look outside by rounding at most.
    fill_mode = next((one.fill_mode for one in members if one.fill_mode), "nearest")

    # Three compiled functions: in one, XLA would look every pixel up once more for each channel and neighbour, and
    # round its place otherwise each time.
    looked_up, found, resampled = (
        tf.function(partial(one, fill_mode=fill_mode), jit_compile=True, autograph=False)
        for one in (look_up, neighbours, resample)
    )

    def warped(images: tf.Tensor, maps: tf.Tensor) -> tf.Tensor:
        x, y = looked_up(maps, *images.shape[1:3])
        places = (tf.ensure_shape(place, [None, *images.shape[1:3]]) for place in (x, y))
        return resampled(images, *found(*places))

    def maps(drawn: Sequence[Drawn]) -> tf.Tensor:
        each = [one.maps(numbers) for one, numbers in zip(members, drawn, strict=True)]
        return tf.cast(reduce(product, each), tf.float32)

    return Pass(maps, warped)


def _layer_itself(members: Sequence[BuiltOperation]) -> Pass:
    (only,) = members
    return Pass(lambda drawn: drawn[0], only.apply)


MAKERS: dict[str, Callable[[Sequence[BuiltOperation]], Pass]] = {
    WARP: _one_warp,
    COLOUR: one_colour_pass,
    LAYER: _layer_itself,
}

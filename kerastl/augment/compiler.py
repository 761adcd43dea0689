"""From operations in a row to few passes over the pictures.

Neighbours that move pixels become one affine map and one warp; neighbours that change colours become one function
that XLA compiles, in which saturation and hue share one conversion. All numbers are drawn outside: drawn inside, XLA
would give others. What cannot be lowered runs as keras-cv's layer, at its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, NamedTuple

import tensorflow as tf

from kerastl.augment.affine import product
from kerastl.augment.hsv import change_hsv
from kerastl.augment.operation import BuiltOperation, Drawn, kept_where_not
from kerastl.augment.warp import warp

WARP, COLOUR, LAYER = "warp", "colour", "layer"


class Pass(NamedTuple):
    """One pass over the pictures.

    Args:
        prepare: from what each operation drew to what `change` asks for; for a whole batch at once, outside of XLA.
        change: `(images, prepared) -> images`; rows of prepared go with rows of images.
    """

    prepare: Callable[[Sequence[Drawn]], Any]
    change: Callable[[tf.Tensor, Any], tf.Tensor]


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

    @tf.function(jit_compile=True, autograph=False)
    def warped(images: tf.Tensor, maps: tf.Tensor) -> tf.Tensor:
        return warp(images, maps, fill_mode=fill_mode)

    def maps(drawn: Sequence[Drawn]) -> tf.Tensor:
        each = [one.maps(numbers) for one, numbers in zip(members, drawn, strict=True)]
        return tf.cast(reduce(product, each), tf.float32)

    return Pass(maps, warped)


def _one_colour_function(members: Sequence[BuiltOperation]) -> Pass:
    groups = _shared(members)

    @tf.function(jit_compile=True, autograph=False)
    def coloured(images: tf.Tensor, prepared: Sequence[Any]) -> tf.Tensor:
        for (kind, places), numbers in zip(groups, prepared, strict=True):
            if kind == "hsv":
                changed = change_hsv(images, numbers["factors"], numbers["sextants"])
                images = kept_where_not(numbers, changed, images)
            else:
                images = members[places[0]].apply(images, numbers)
        return images

    def numbers_of(drawn: Sequence[Drawn]) -> list[Drawn]:
        return [
            PREPARE[kind]([members[at] for at in places], [drawn[at] for at in places])
            for kind, places in groups
        ]

    return Pass(numbers_of, coloured)


def _layer_itself(members: Sequence[BuiltOperation]) -> Pass:
    (only,) = members
    return Pass(lambda drawn: drawn[0], only.apply)


MAKERS: dict[str, Callable[[Sequence[BuiltOperation]], Pass]] = {
    WARP: _one_warp,
    COLOUR: _one_colour_function,
    LAYER: _layer_itself,
}


def _shared(members: Sequence[BuiltOperation]) -> list[tuple[str, list[int]]]:
    """Return (kind, places) of what is done together: neighbours in HSV up to the second saturation."""
    groups: list[tuple[str, list[int]]] = []
    saturations = 0
    for place, one in enumerate(members):
        kind = "hsv" if one.lowering == "hsv" else "compiled"
        saturates = kind == "hsv" and one.saturates
        joins = bool(groups) and groups[-1][0] == kind and kind != "compiled"
        # Saturation stops at 1, so that two in a row are not one.
        if not joins or (saturates and saturations):
            groups.append((kind, [place]))
            saturations = int(saturates)
        else:
            groups[-1][1].append(place)
            saturations += int(saturates)
    return groups


# What is computed from the draws is computed here, outside of XLA, where it does not depend on the batch.


def _hsv_numbers(members: Sequence[BuiltOperation], drawn: Sequence[Drawn]) -> Drawn:
    changes = [one.hsv_change(numbers) for one, numbers in zip(members, drawn, strict=True)]
    some = next(number for change in changes for number in change if number is not None)
    factors, turns = tf.ones_like(some), tf.zeros_like(some)
    for factor, turn in changes:
        factors = factors if factor is None else factors * factor
        turns = turns if turn is None else turns + turn
    return {"factors": factors, "sextants": 6.0 * turns, **_chosen_by_any(drawn)}


def _chosen_by_any(drawn: Sequence[Drawn]) -> Drawn:
    """Return who is changed at all: a picture that nobody chose keeps its bytes, as there and back rounds."""
    if not all("chosen" in numbers for numbers in drawn):
        return {}
    return {"chosen": reduce(tf.logical_or, [numbers["chosen"] for numbers in drawn])}


PREPARE: dict[str, Callable[..., Drawn]] = {
    "hsv": _hsv_numbers,
    "compiled": lambda _, drawn: drawn[0],
}

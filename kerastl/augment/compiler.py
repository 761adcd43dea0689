"""From operations in a row to few passes over the pictures.

Neighbours that move pixels become one affine map and one warp; neighbours that change colours become one function
that XLA compiles, in which saturation and hue share one conversion. All numbers are drawn outside: drawn inside, XLA
would give others. What cannot be lowered runs as keras-cv's layer, at its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import tensorflow as tf

from kerastl.augment.affine import product
from kerastl.augment.hsv import change_hsv
from kerastl.augment.operation import BuiltOperation, Drawn
from kerastl.augment.warp import warp

Pass = Callable[[tf.Tensor, Sequence[Drawn]], tf.Tensor]
WARP, COLOUR, LAYER = "warp", "colour", "layer"


def compiled(operations: Sequence[BuiltOperation]) -> Callable[..., tf.Tensor]:
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

    def run(images: tf.Tensor, drawn: Sequence[Drawn]) -> tf.Tensor:
        for one_pass, places in passes:
            images = one_pass(images, [drawn[place] for place in places])
        return images

    return run


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

    def run(images: tf.Tensor, drawn: Sequence[Drawn]) -> tf.Tensor:
        maps = [one.maps(numbers) for one, numbers in zip(members, drawn, strict=True)]
        return tf.ensure_shape(warped(images, reduce(product, maps)), images.shape)

    return run


def _one_colour_function(members: Sequence[BuiltOperation]) -> Pass:
    groups = _shared(members)

    @tf.function(jit_compile=True, autograph=False)
    def coloured(images: tf.Tensor, drawn: Sequence[Drawn]) -> tf.Tensor:
        for kind, places in groups:
            ours, numbers = [members[place] for place in places], [drawn[place] for place in places]
            images = STEPS[kind](images, ours, numbers)
        return images

    def run(images: tf.Tensor, drawn: Sequence[Drawn]) -> tf.Tensor:
        return tf.ensure_shape(coloured(images, list(drawn)), images.shape)

    return run


def _layer_itself(members: Sequence[BuiltOperation]) -> Pass:
    (only,) = members
    return lambda images, drawn: only.apply(images, drawn[0])


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
        kind = one.lowering if one.lowering in STEPS else "compiled"
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


def _in_hsv(images: tf.Tensor, members: Sequence[BuiltOperation], drawn: Sequence[Drawn]) -> Any:
    factors, turns = tf.ones([tf.shape(images)[0]]), tf.zeros([tf.shape(images)[0]])
    touched = tf.zeros([tf.shape(images)[0]], tf.bool)
    for one, numbers in zip(members, drawn, strict=True):
        factor, turn = one.hsv_change(numbers)
        factors = factors if factor is None else factors * factor
        turns = turns if turn is None else turns + turn
        touched = touched | numbers.get("chosen", True)
    # A picture that none of them chose keeps its bytes: there and back rounds.
    return tf.where(touched[:, None, None, None], change_hsv(images, factors, turns), images)


def _one_by_one(
    images: tf.Tensor, members: Sequence[BuiltOperation], drawn: Sequence[Drawn]
) -> Any:
    for one, numbers in zip(members, drawn, strict=True):
        images = one.apply(images, numbers)
    return images


STEPS: dict[str, Callable[..., Any]] = {
    "hsv": _in_hsv,
    # Each matrix is followed by its clip to [0, 255]: the product of two would be another augmentation.
    "linear": _one_by_one,
    "compiled": _one_by_one,
}

"""Neighbours that change colours, as few functions that XLA compiles.

One function for all would be slower: XLA computes what comes before once more for every pixel that reads it, for three
channels on the way back from HSV, for all neighbours in a blur. So a function ends where that would happen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import tensorflow as tf

from kerastl.augment.operation import BuiltOperation, Params, keep_unselected

SMALLEST_CHROMA = 1e-9
OWN_HUES = (0.0, 2.0, 4.0)
"""Sextants at which red, green and blue are pure."""


def to_hsv(
    images: tf.Tensor, factors: tf.Tensor, sextants: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return value, chroma and hue of each pixel, its image's saturation multiplied and its hue turned.

    With `from_hsv`, equal to converting to HSV, changing saturation and hue there, and converting back. Value is the largest channel; the chroma is saturation times value, the distance to the smallest, so that
    neither has to be divided by the value and black needs no exception. Which channel is the largest is asked with
    >=, never with ==: a compiler may compute a number twice with different rounding.

    Args:
        images: `[batch, height, width, 3]` float32, not negative.
        factors: `[batch]` float32, at least 0; the saturation stops at 1.
        sextants: `[batch]` float32, turn of the hue in sixths of the circle of colours. Computed outside of what XLA
            compiles: multiplied inside, the last digit may depend on the size of the batch.

    Returns:
        Three `[batch, height, width]` float32; the hue in sextants, 0 to 6.

    Reference:
        Smith 1978, doi 10.1145/800248.807361; the way back as in Foley & van Dam, without branches.
    """
    red, green, blue = tf.unstack(images, axis=-1)
    value = tf.maximum(tf.maximum(red, green), blue)
    chroma = value - tf.minimum(tf.minimum(red, green), blue)
    is_red = (red >= green) & (red >= blue)
    is_green = green >= blue
    apart = tf.where(is_red, green - blue, tf.where(is_green, blue - red, red - green))
    sector = tf.where(is_red, 0.0, tf.where(is_green, 2.0, 4.0))
    hue = apart / tf.maximum(chroma, SMALLEST_CHROMA) + sector + sextants[:, None, None]
    hue = hue - 6.0 * tf.floor(hue * (1.0 / 6.0))
    return value, tf.minimum(chroma * factors[:, None, None], value), hue


def from_hsv(value: tf.Tensor, chroma: tf.Tensor, hue: tf.Tensor) -> tf.Tensor:
    """Return the images, `[batch, height, width, 3]` float32, of what `to_hsv` returned.

    Each pixel's largest channel stays as large, and a grey pixel as it was. A channel holds the value within a sextant of its own hue, and the value less the chroma from two sextants on.
    """
    distance = tf.abs(hue[..., None] - tf.constant(OWN_HUES))
    distance = tf.minimum(distance, 6.0 - distance)
    short = tf.clip_by_value(distance - 1.0, 0.0, 1.0)
    return value[..., None] - chroma[..., None] * short


def apply_matrices(images: tf.Tensor, matrices: tf.Tensor) -> tf.Tensor:
    """Mix the channels of each image by a matrix, and clip to [0, 255].

    Args:
        images: `[batch, height, width, 3]` float32.
        matrices: `[batch, 3, 3]` float32; row i makes channel i.
    """
    channels = tf.unstack(images, axis=-1)
    rows = tf.unstack(matrices[:, :, :, None, None], axis=1)
    mixed = [sum(row[:, place] * channel for place, channel in enumerate(channels)) for row in rows]
    return tf.clip_by_value(tf.stack(mixed, axis=-1), 0.0, 255.0)


class Pass(NamedTuple):
    """One pass over the images.

    Args:
        prepare: from what each operation drew to what `change` asks for; for a whole batch at once, outside of XLA.
        change: `(images, prepared) -> images`; rows of prepared go with rows of images.
    """

    prepare: Callable[[Sequence[Params]], Any]
    change: Callable[[tf.Tensor, Any], tf.Tensor]


def build_color_pass(members: Sequence[BuiltOperation]) -> Pass:
    """Return what does these operations, in their order.

    Args:
        members: each `hsv`, `linear` or `compiled`, or mirrors.
    """
    groups = _shared(members)
    functions = [_compiled_steps(steps) for steps in _cut(_steps(members, groups))]

    def coloured(images: tf.Tensor, prepared: Sequence[Any]) -> tf.Tensor:
        state = (images,)
        for function in functions:
            state = function(state, list(prepared))
        return state[0]

    def numbers_of(params: Sequence[Params]) -> list[Params]:
        return [
            PREPARE[kind]([members[at] for at in places], [params[at] for at in places])
            for kind, places in groups
        ]

    return Pass(numbers_of, coloured)


class Step(NamedTuple):
    """One step between planes of pixels.

    Args:
        change: `(*planes, numbers) -> planes`.
        at: whose numbers.
        cut_before, cut_after: whether its function starts, ends with it.
    """

    change: Callable[..., tuple[tf.Tensor, ...]]
    at: int
    cut_before: bool = False
    cut_after: bool = False


def _steps(members: Sequence[BuiltOperation], groups: Sequence[tuple[str, list[int]]]) -> Iterator[Step]:
    for at, (kind, places) in enumerate(groups):
        if kind == "hsv":
            yield Step(partial(_there, _shared_planes), at, cut_after=True)
            yield Step(_back, at)
            continue
        one = members[places[0]]
        if one.in_halves:
            yield Step(partial(_there, one.to_planes), at, cut_after=True)
            yield Step(_back, at)
        else:
            alone = one.reads_neighbors
            yield Step(partial(_by_itself, one), at, cut_before=alone, cut_after=alone)


def _shared_planes(images: tf.Tensor, numbers: Params) -> tuple[tf.Tensor, ...]:
    return to_hsv(images, numbers["factors"], numbers["sextants"])


def _there(planes_of: Any, images: tf.Tensor, numbers: Params) -> tuple[tf.Tensor, ...]:
    planes: tuple[tf.Tensor, ...] = planes_of(images, numbers)
    return (*planes, images) if "chosen" in numbers else planes


def _back(*planes_and_numbers: Any) -> tuple[tf.Tensor, ...]:
    *planes, numbers = planes_and_numbers
    return (keep_unselected(numbers, from_hsv(*planes[:3]), planes[-1]),)


def _by_itself(one: BuiltOperation, images: tf.Tensor, numbers: Params) -> tuple[tf.Tensor, ...]:
    return (one.apply(images, numbers),)


def _cut(steps: Iterable[Step]) -> list[list[Step]]:
    """Return the steps of one function after the other."""
    functions: list[list[Step]] = []
    for step in steps:
        if not functions or step.cut_before or functions[-1][-1].cut_after:
            functions.append([])
        functions[-1].append(step)
    return functions


def _compiled_steps(steps: Sequence[Step]) -> Callable[..., tuple[tf.Tensor, ...]]:
    @tf.function(jit_compile=True, autograph=False)
    def run(planes: tuple[tf.Tensor, ...], prepared: Sequence[Any]) -> tuple[tf.Tensor, ...]:
        for step in steps:
            planes = step.change(*planes, prepared[step.at])
        return planes

    return run


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


def _hsv_numbers(members: Sequence[BuiltOperation], params: Sequence[Params]) -> Params:
    changes = [one.hsv_change(numbers) for one, numbers in zip(members, params, strict=True)]
    some = next(number for change in changes for number in change if number is not None)
    factors, turns = tf.ones_like(some), tf.zeros_like(some)
    for factor, turn in changes:
        factors = factors if factor is None else factors * factor
        turns = turns if turn is None else turns + turn
    return {"factors": factors, "sextants": 6.0 * turns, **_chosen_by_any(params)}


def _chosen_by_any(params: Sequence[Params]) -> Params:
    """Return who is changed at all: an image that nobody chose keeps its bytes, as there and back rounds."""
    if not all("chosen" in numbers for numbers in params):
        return {}
    return {"chosen": reduce(tf.logical_or, [numbers["chosen"] for numbers in params])}


PREPARE: dict[str, Callable[..., Params]] = {"hsv": _hsv_numbers, "compiled": lambda _, params: params[0]}

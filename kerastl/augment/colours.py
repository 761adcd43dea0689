"""Neighbours that change colours, as few functions that XLA compiles.

One function for all would be slower: XLA computes what comes before once more for every pixel that reads it, for three
channels on the way back from HSV, for all neighbours in a blur. So a function ends where that would happen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import tensorflow as tf

from kerastl.augment.hsv import from_hsv, to_hsv
from kerastl.augment.operation import BuiltOperation, Drawn, kept_where_not


class Pass(NamedTuple):
    """One pass over the pictures.

    Args:
        prepare: from what each operation drew to what `change` asks for; for a whole batch at once, outside of XLA.
        change: `(images, prepared) -> images`; rows of prepared go with rows of images.
    """

    prepare: Callable[[Sequence[Drawn]], Any]
    change: Callable[[tf.Tensor, Any], tf.Tensor]


def one_colour_pass(members: Sequence[BuiltOperation]) -> Pass:
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

    def numbers_of(drawn: Sequence[Drawn]) -> list[Drawn]:
        return [
            PREPARE[kind]([members[at] for at in places], [drawn[at] for at in places])
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


def _steps(
    members: Sequence[BuiltOperation], groups: Sequence[tuple[str, list[int]]]
) -> Iterator[Step]:
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
            alone = one.reads_neighbours
            yield Step(partial(_by_itself, one), at, cut_before=alone, cut_after=alone)


def _shared_planes(images: tf.Tensor, numbers: Drawn) -> tuple[tf.Tensor, ...]:
    return to_hsv(images, numbers["factors"], numbers["sextants"])


def _there(planes_of: Any, images: tf.Tensor, numbers: Drawn) -> tuple[tf.Tensor, ...]:
    planes: tuple[tf.Tensor, ...] = planes_of(images, numbers)
    return (*planes, images) if "chosen" in numbers else planes


def _back(*planes_and_numbers: Any) -> tuple[tf.Tensor, ...]:
    *planes, numbers = planes_and_numbers
    return (kept_where_not(numbers, from_hsv(*planes[:3]), planes[-1]),)


def _by_itself(one: BuiltOperation, images: tf.Tensor, numbers: Drawn) -> tuple[tf.Tensor, ...]:
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

"""Adjacent color operations, grouped into few functions that XLA compiles.

One function for all would be slower: XLA recomputes an intermediate value for each pixel that reads it, three
times in the conversion from HSV and once per neighbor in a blur. A function therefore ends before such a
step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import tensorflow as tf

from kerastl.augment.operation import BuiltOperation, Params, keep_unselected

Planes = tuple[tf.Tensor, ...]
"""Planes of pixels, each `[batch, height, width]` or `[batch, height, width, channels]`."""
MIN_CHROMA = 1e-9
PRIMARY_HUES = (0.0, 2.0, 4.0)
"""Hues of red, green and blue, in sextants."""


def to_hsv(images: tf.Tensor, factors: tf.Tensor, sextants: tf.Tensor) -> Planes:
    """Convert to value, chroma and hue, scale the saturation and shift the hue.

    With `from_hsv`, this equals a conversion to HSV, the changes, and the conversion back. The chroma, value
    times saturation, avoids a division by the value. The largest channel is found with >= rather than ==,
    because a compiler may compute a value twice with different rounding.

    Args:
        images: `[batch, height, width, 3]` float32, 0 or larger.
        factors: `[batch]` float32, 0 or larger; the saturation is clipped at 1.
        sextants: `[batch]` float32, hue shift in units of 60 degrees. Computed outside XLA: a product inside
            may be rounded differently for each batch size.

    Returns:
        Value, chroma and hue (in sextants, 0 to 6), each `[batch, height, width]` float32.

    Reference:
        Smith 1978, doi 10.1145/800248.807361; Foley & van Dam for the conversion back.
    """
    red, green, blue = tf.unstack(images, axis=-1)
    value = tf.maximum(tf.maximum(red, green), blue)
    chroma = value - tf.minimum(tf.minimum(red, green), blue)
    is_red = (red >= green) & (red >= blue)
    is_green = green >= blue
    difference = tf.where(is_red, green - blue, tf.where(is_green, blue - red, red - green))
    sector = tf.where(is_red, 0.0, tf.where(is_green, 2.0, 4.0))
    hue = difference / tf.maximum(chroma, MIN_CHROMA) + sector + sextants[:, None, None]
    hue = hue - 6.0 * tf.floor(hue * (1.0 / 6.0))
    return value, tf.minimum(chroma * factors[:, None, None], value), hue


def from_hsv(value: tf.Tensor, chroma: tf.Tensor, hue: tf.Tensor) -> tf.Tensor:
    """Convert value, chroma and hue, as returned by `to_hsv`, to images `[batch, height, width, 3]` float32.

    The largest channel of each pixel, and gray pixels, are unchanged. A channel equals the value within one
    sextant of its own hue, and the value minus the chroma from two sextants on.
    """
    distance = tf.abs(hue[..., None] - tf.constant(PRIMARY_HUES))
    distance = tf.minimum(distance, 6.0 - distance)
    drop = tf.clip_by_value(distance - 1.0, 0.0, 1.0)
    return value[..., None] - chroma[..., None] * drop


def apply_matrices(images: tf.Tensor, matrices: tf.Tensor) -> tf.Tensor:
    """Multiply the channels of each image by a matrix, and clip to [0, 255].

    Args:
        images: `[batch, height, width, 3]` float32.
        matrices: `[batch, 3, 3]` float32; row i gives channel i.
    """
    channels = tf.unstack(images, axis=-1)
    rows = tf.unstack(matrices[:, :, :, None, None], axis=1)
    mixed = [sum(row[:, index] * channel for index, channel in enumerate(channels)) for row in rows]
    return tf.clip_by_value(tf.stack(mixed, axis=-1), 0.0, 255.0)


class Pass(NamedTuple):
    """One pass over the images.

    Args:
        prepare: Function from the parameters of its operations to the second argument of `apply`; runs once
            per batch, outside XLA.
        apply: Function `(images, prepared) -> images`; rows of `prepared` belong to rows of images.
    """

    prepare: Callable[[Sequence[Params]], Any]
    apply: Callable[[tf.Tensor, Any], tf.Tensor]


def build_color_pass(members: Sequence[BuiltOperation]) -> Pass:
    """Return a pass that applies operations in their order; each is `hsv`, `linear`, `compiled` or a flip."""
    groups = _group_hsv(members)
    functions = [_compile_steps(steps) for steps in _split_steps(members, groups)]

    def apply(images: tf.Tensor, prepared: Sequence[Any]) -> tf.Tensor:
        planes = (images,)
        for function in functions:
            planes = function(planes, list(prepared))
        return planes[0]

    def prepare(params: Sequence[Params]) -> list[Params]:
        return [
            _hsv_params([members[index] for index in indices], [params[index] for index in indices])
            if is_hsv
            else params[indices[0]]
            for is_hsv, indices in groups
        ]

    return Pass(prepare, apply)


Group = tuple[bool, list[int]]
"""(is_hsv, indices of its operations)."""
Step = tuple[Callable[..., Planes], int]
"""Function `(*planes, params) -> planes` of planes of pixels, and the index of the group that the parameters belong to."""


def _split_steps(members: Sequence[BuiltOperation], groups: Sequence[Group]) -> list[list[Step]]:
    """Return the steps of each compiled function."""
    functions: list[list[Step]] = [[]]
    for group, (is_hsv, indices) in enumerate(groups):
        operation = members[indices[0]]
        if is_hsv or operation.in_halves:
            convert = _convert_to_hsv if is_hsv else operation.to_planes
            functions[-1].append((partial(_to_planes, convert), group))
            functions.append([(_from_planes, group)])
        elif operation.reads_neighbors:
            functions += [[(partial(_apply_layer, operation), group)], []]
        else:
            functions[-1].append((partial(_apply_layer, operation), group))
    return [steps for steps in functions if steps]


def _convert_to_hsv(images: tf.Tensor, params: Params) -> Planes:
    return to_hsv(images, params["factors"], params["sextants"])


def _to_planes(convert: Any, images: tf.Tensor, params: Params) -> Planes:
    planes: Planes = convert(images, params)
    return (*planes, images) if "chosen" in params else planes


def _from_planes(*planes_and_params: Any) -> Planes:
    *planes, params = planes_and_params
    return (keep_unselected(params, from_hsv(*planes[:3]), planes[-1]),)


def _apply_layer(operation: BuiltOperation, images: tf.Tensor, params: Params) -> Planes:
    return (operation.apply(images, params),)


def _compile_steps(steps: Sequence[Step]) -> Callable[..., Planes]:
    @tf.function(jit_compile=True, autograph=False)
    def run(planes: Planes, prepared: Sequence[Any]) -> Planes:
        for apply, group in steps:
            planes = apply(*planes, prepared[group])
        return planes

    return run


def _group_hsv(members: Sequence[BuiltOperation]) -> list[Group]:
    """Return the groups: adjacent HSV operations share one conversion."""
    groups: list[Group] = []
    for index, operation in enumerate(members):
        is_hsv = operation.lowering == "hsv"
        is_last_hsv, last = groups[-1] if groups else (False, [])
        # Saturation is clipped at 1, so that two changes of it cannot be multiplied.
        saturates_twice = operation.saturates and any(members[other].saturates for other in last)
        if is_hsv and is_last_hsv and not saturates_twice:
            last.append(index)
        else:
            groups.append((is_hsv, [index]))
    return groups


def _hsv_params(members: Sequence[BuiltOperation], params: Sequence[Params]) -> Params:
    """Combine the parameters of HSV operations outside XLA, where the result does not depend on the batch."""
    changes = (member.hsv_change(own) for member, own in zip(members, params, strict=True))
    factors, shifts = zip(*changes, strict=True)
    combined = {"factors": reduce(tf.multiply, factors), "sextants": 6.0 * reduce(tf.add, shifts)}
    if all("chosen" in own for own in params):
        # An image that no operation changes keeps its bytes; converting it to HSV and back would round it.
        combined["chosen"] = reduce(tf.logical_or, [own["chosen"] for own in params])
    return combined

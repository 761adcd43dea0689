"""Images as operations change them, beside what they were: at the ends of each operation, and samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerastl.augment.mixer import build_mixing
from kerastl.augment.operation import BuiltOperation
from kerastl.augment.parse_operations import Operation
from kerastl.augment.policy import build_policy
from kerastl.augment.stateless_random import FLOAT32_STEPS, StatelessGenerator

Place = float | tuple[float, ...] | None
"""Where a draw lies in its range, 0 to 1, or one such number for each element of its last axis; None: at random."""


@dataclass(frozen=True)
class End:
    """One end of an operation.

    Args:
        words: how strong, in the units of the options.
        places: of its draws, in their order.
        rest: of all draws behind these.
    """

    words: str
    places: tuple[Place, ...] = ()
    rest: Place = None


def ends_of(name: str, options: Any) -> list[End]:
    """Return the ends of an operation: none where only samples tell anything, mostly one or two.

    Args:
        name: of the operation.
        options: its options, checked.
    """
    found: Sequence[End] = ENDS.get(name, _unknown)(options)
    return list(found)


def options_in_words(options: Any) -> str:
    """Return `max_deg 15, model linear`: what was chosen, without what is left at its default."""
    fields = type(options).model_fields if options is not None else {}
    chosen = [(name, getattr(options, name), field.default) for name, field in fields.items()]
    told = [(name, _in_words(value)) for name, value, default in chosen if value != default]
    return ", ".join(f"{name} {words}" for name, words in told)


def _in_words(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_in_words, value))})"
    if isinstance(value, float):
        return f"{value:g}"
    # An operation inside of another one.
    if hasattr(value, "options"):
        return f"{value.name} {options_in_words(value.options)}".rstrip()
    return str(value)


def _unknown(options: Any) -> list[End]:
    # Of operations inside of another one only samples tell anything.
    if hasattr(options, "operations"):
        return []
    return [End("lower end", rest=0.0), End("upper end", rest=1.0)]


def _two(lower: str, upper: str) -> list[End]:
    return [End(lower, rest=0.0), End(upper, rest=1.0)]


def _percent(fraction: float) -> str:
    return f"{100 * fraction:g} %"


def _sides(fraction: float, of: str) -> list[End]:
    return _two(f"-{_percent(fraction)} {of}", f"+{_percent(fraction)} {of}")


def _sides_of(what: str, size: float) -> list[End]:
    return _two(f"{what} -{size:g}", f"{what} +{size:g}")


def _rotation(options: Any) -> list[End]:
    return _two(f"-{options.max_deg:g} deg (clockwise)", f"+{options.max_deg:g} deg")


def _translation(options: Any) -> list[End]:
    part = _percent(options.max_fraction)
    return _two(f"{part} up, {part} left", f"{part} down, {part} right")


def _times(fraction: float, what: str) -> list[End]:
    return _two(f"{what} x {1 - fraction:g}", f"{what} x {1 + fraction:g}")


def _mirrors(options: Any) -> list[End]:
    words = {"horizontal": "left and right swapped", "vertical": "top and bottom swapped"}
    if options.direction != "both":
        return [End(words[options.direction], rest=1.0)]
    return [End(words["horizontal"], (1.0, 0.0)), End(words["vertical"], (0.0, 1.0))]


def _hue(options: Any) -> list[End]:
    # keras-cv draws the sign first, then the size.
    return [End(f"-{options.max_deg:g} deg", (1.0, 1.0)), End(f"+{options.max_deg:g} deg", (0.0, 1.0))]


def _jitter(options: Any) -> list[End]:
    def words(sign: str, side: int) -> str:
        parts = [
            (options.max_brightness_fraction, f"brightness {sign}{_percent(options.max_brightness_fraction)}"),
            (options.max_contrast_fraction, f"contrast x {1 + side * options.max_contrast_fraction:g}"),
            (options.max_saturation_fraction, f"saturation x {1 + side * options.max_saturation_fraction:g}"),
            (options.max_hue_deg, f"hue {sign}{options.max_hue_deg:g} deg"),
        ]  # fmt: skip
        return ", ".join(text for strength, text in parts if strength)

    return _two(words("-", -1), words("+", 1))


def _channel_shift(options: Any) -> list[End]:
    shift = _percent(options.max_fraction)
    return [
        End(f"red and blue -{shift}, green +{shift}", ((0.0, 1.0, 0.0),)),
        End(f"red and blue +{shift}, green -{shift}", ((1.0, 0.0, 1.0),)),
    ]


def _sharpness(options: Any) -> list[End]:
    softer = End(f"softer by {options.max_fraction:g}", rest=0.0)
    sharper = End(f"sharper by {options.max_fraction:g}", rest=1.0)
    if options.direction == "both":
        return [softer, sharper]
    if options.direction == "softer":
        return [softer]
    return [sharper]


def _grid(options: Any) -> list[End]:
    size = f"squares {options.max_fraction:g} of the distance"
    return [
        End(f"{size}, closest, not turned", (0.0, 0.5, 0.5, 1.0)),
        End(f"{size}, farthest, +{options.max_deg:g} deg", (1.0, 1.0, 0.5, 1.0)),
    ]


def _cutout(options: Any) -> list[End]:
    return [End(f"{_percent(options.max_fraction)} of height and width", (1.0, 0.5))]


def _crop(options: Any) -> list[End]:
    side = f"{1 - options.max_fraction:g} of the side"
    return _two(f"top left, {side}", f"bottom right, {side}")


def _crop_and_resize(options: Any) -> list[End]:
    area = f"{_percent(options.min_area_fraction)} of the area"
    # The area is drawn first, then the aspect ratio, tall to wide, then the place.
    return [End(f"{area}, tallest", (0.0, 0.0, 0.5, 0.5)), End(f"{area}, widest", (0.0, 1.0, 0.5, 0.5))]


ENDS: dict[str, Callable[[Any], Sequence[End]]] = {
    "aug_mix": lambda _: [],
    "auto_contrast": lambda o: [End(f"{_percent(o.max_fraction)} stretched", rest=1.0)],
    "channel_shuffle": lambda _: [End("red and blue swapped", ((1.0, 0.5, 0.0),))],
    "equalization": lambda o: [End(f"{_percent(o.max_fraction)} equalized", rest=1.0)],
    "grayscale": lambda _: [End("grey")],
    "grid_mask": _grid,
    "posterization": lambda o: [End(f"{o.min_bits} bits", rest=0.0)],
    "random_brightness": lambda o: _sides(o.max_fraction, "of 255"),
    "random_channel_shift": _channel_shift,
    "random_color_degeneration": lambda o: [End(f"{_percent(o.max_fraction)} grey", rest=1.0)],
    "random_color_jitter": _jitter,
    "random_contrast": lambda o: _times(o.max_fraction, "contrast"),
    "random_crop": _crop,
    "random_crop_and_resize": _crop_and_resize,
    "random_cutout": _cutout,
    "random_flip": _mirrors,
    "random_gaussian_blur": lambda o: [End(f"sigma {o.max_sigma_px:g} px", rest=1.0)],
    "random_hue": _hue,
    "random_jpeg_quality": lambda o: [End(f"quality {o.min_quality}", rest=0.0)],
    "random_rotation": _rotation,
    "random_saturation": lambda o: _times(o.max_fraction, "saturation"),
    "random_sharpness": _sharpness,
    "random_shear": lambda o: _sides_of("slopes", o.max_fraction),
    "random_translation": _translation,
    "random_zoom": lambda o: _times(o.max_fraction, "width shown"),
    "solarization": lambda o: [End(f"levels from {o.min_threshold:g} up inverted", rest=0.0)],
}
"""Most have one end of the range that changes nothing; it is not shown."""


HIGHEST = (FLOAT32_STEPS - 1) / FLOAT32_STEPS
"""The largest number that is ever drawn from [0, 1)."""
SMALLEST_SHARE = 0.005
"""Share of a label below which its class is not named."""

TOGETHER = "all operations"
"""Title of the block in which they are done one after the other."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Block:
    """Some images, one a row, and what becomes of them, one way a column.

    Args:
        title: the operation, or what else is shown.
        strength: its options in words; may be empty.
        note: what else must be known; may be empty.
        columns: heads of the columns; the first is the original.
        images: `[rows, columns, size, size, channels]` uint8, 0 to 255.
        captions: one for each image, `[rows][columns]`; empty where there are none.
    """

    title: str
    strength: str
    note: str
    columns: tuple[str, ...]
    images: Pixels
    captions: tuple[tuple[str, ...], ...] = ()


def operation_block(
    operation: Operation, images: npt.NDArray[np.float32], seeds: npt.NDArray[np.int32]
) -> Block:
    """Return images under one operation: at its ends, and samples as training draws them.

    Args:
        operation: (name, options).
        images: `[batch, size, size, channels]` float32 in [0, 255].
        seeds: `[samples, batch, 2]` int32.
    """
    name, options = operation
    ends = ends_of(name, options)
    shown = [images, *(_at(operation, end, images, seeds) for end in ends)]
    # Layer by layer: to compile each of them would take longer than to draw it, and an image is the same to 0.01 of 255.
    policy = build_policy([operation], image_size_px=images.shape[1], channels=images.shape[3], exact=True)
    shown += [policy(images, one).numpy() for one in seeds]
    columns = ("original", *(end.words for end in ends), *_sample_heads(seeds))
    return Block(
        name, options_in_words(options), _note(policy.lowering[0][1], options), columns, _pixels(shown)
    )


def policy_block(
    operations: Sequence[Operation],
    images: npt.NDArray[np.float32],
    seeds: npt.NDArray[np.int32],
    *,
    exact: bool = False,
) -> Block:
    """Return images under all operations together; arguments as in `operation_block` and `build_policy`."""
    policy = build_policy(operations, image_size_px=images.shape[1], channels=images.shape[3], exact=exact)
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
    """Return images mixed with one another, with the shares of their labels.

    Args:
        mixing: (name, options).
        images: `[batch, size, size, channels]` float32 in [0, 255].
        labels: `[batch]` int32, class numbers.
        seeds: `[samples, batch, 2]` int32.
        class_names: in the order of the class numbers.
    """
    name, options = mixing
    mix = build_mixing(
        [mixing], image_size_px=images.shape[1], channels=images.shape[3], num_classes=len(class_names)
    )
    mixed = [mix(images, labels, one) for one in seeds]
    told = [[_shares(row, class_names) for row in shares.numpy()] for _, shares in mixed]
    first = [class_names[label] for label in labels]
    note = "Each image is mixed with another one of those shown; in training, of its batch."
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
    return f"Changes {100 * share:g} % of the images; the others stay as they are." if share < 1 else ""


def _shares(row: npt.NDArray[np.float32], class_names: Sequence[str]) -> str:
    order = sorted(range(len(row)), key=lambda place: -row[place])
    named = [place for place in order if row[place] >= SMALLEST_SHARE]
    return ", ".join(f"{100 * row[place]:.0f} % {class_names[place]}" for place in named)


def _pixels(shown: Sequence[Any]) -> Pixels:
    stacked = np.stack([np.asarray(one, np.float32) for one in shown], axis=1)
    return np.round(np.clip(stacked, 0, 255)).astype(np.uint8)


def _at(
    operation: Operation, end: End, images: npt.NDArray[np.float32], seeds: npt.NDArray[np.int32]
) -> npt.NDArray[np.float32]:
    """Return the images at one end of an operation, whatever its probability."""
    name, options = operation
    if getattr(options, "apply_probability", 0.0):
        options = options.model_copy(update={"apply_probability": 1.0})
    one = BuiltOperation(0, name, options, images.shape[1])
    first = seeds[0] if len(seeds) else np.zeros((len(images), 2), np.int32)
    pictures = tf.constant(images)
    params = one.draw(FixedGenerator(tf.constant(first), end.places, end.rest), pictures)
    changed: npt.NDArray[np.float32] = one.apply(pictures, params).numpy()
    return changed


class FixedGenerator(StatelessGenerator):
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
        self, shape: Sequence[Any], minval: float = 0.0, maxval: float = 1.0, dtype: Any = tf.float32
    ) -> tf.Tensor:
        """Return the next numbers: at their place, or random as in `StatelessGenerator`."""
        params = super().uniform(shape, minval, maxval, dtype)
        place = self._places[self._draw - 1] if self._draw <= len(self._places) else self._rest
        if place is None:
            return params
        share = np.minimum(np.asarray(place, np.float32), np.float32(HIGHEST))
        return tf.broadcast_to(tf.cast(minval + (maxval - minval) * share, dtype), tf.shape(params))

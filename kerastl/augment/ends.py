"""The ends of an operation, in words and in numbers: what a person must see to judge how strong it is.

An end is where an operation's random numbers lie when it changes a picture the most, one way or the other. The words
are in the units of the options. An operation that is not named in `ENDS` shows where all its numbers are at the lower
and at the upper end of their range.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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
    return [
        End(f"-{options.max_deg:g} deg", (1.0, 1.0)),
        End(f"+{options.max_deg:g} deg", (0.0, 1.0)),
    ]


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
    return [
        End(f"{area}, tallest", (0.0, 0.0, 0.5, 0.5)),
        End(f"{area}, widest", (0.0, 1.0, 0.5, 0.5)),
    ]


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

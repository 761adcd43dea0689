"""RandAugment (Cubuk et al. 2019, arXiv:1909.13719): some operations from a list, drawn anew for each image, all of one magnitude.

The list is the paper's, with one operation for its two shears and one for its two translations, which here move along
both axes. The paper's Color is `random_saturation`, which goes both ways as it does; its Cutout is no part of the list there,
either. At magnitude m each operation is what its own `at_strength(m)` gives: its strength is drawn for each image, up
to m of what it does at most, where the paper takes m itself. Nothing is changed at magnitude 0: in keras-cv 0.9.0 auto-contrast, equalization and
the spread of its magnitudes change images there.

Never: do an operation that is not in the list, change an image's size, or leave [0, 255].
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from annotated_types import Ge, Le

from kerastl.augment import nested_options
from kerastl.options import StrictModel
from kerastl.recipe import Operation

Name = Literal[
    "identity",
    "auto_contrast",
    "equalization",
    "random_rotation",
    "solarization",
    "random_saturation",
    "posterization",
    "random_contrast",
    "random_brightness",
    "random_sharpness",
    "random_shear",
    "random_translation",
]


class Options(StrictModel):
    """Options of `rand_augment`.

    Args:
        num_operations: how many operations each image gets, one after the other; the same may be drawn again.
        magnitude: strength of all of them, from 0, nothing, to 1, as strong as makes sense on photographs.
        operations: which are drawn from; empty: all of them, for grey images all that work on grey. `identity`
            does nothing.
        apply_probability: share of the images that are changed, 0 to 1.
    """

    num_operations: Annotated[int, Ge(1), Le(16)] = 2
    magnitude: Annotated[float, Ge(0), Le(1)] = 0.5
    operations: tuple[Name, ...] = ()
    apply_probability: Annotated[float, Ge(0), Le(1)] = 1.0


def is_identity(options: Options) -> bool:
    """Tell whether these options change nothing."""
    return nested_options.are_identities(_held(options))


def needs_color(options: Options) -> bool:
    """Tell whether one of the operations that were asked for makes no sense on grey images."""
    return bool(options.operations) and nested_options.any_needs_color(_held(options))


def at_strength(strength: float) -> Options:
    """Return options from 0, the identity, to 1: two operations of this magnitude."""
    return Options(magnitude=strength)


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Return the layer that stands in for keras-cv's, which changes images at magnitude 0."""
    from kerastl.augment.layers.containers_layers import SomeOf

    return SomeOf(
        _held(options),
        num_operations=options.num_operations,
        with_nothing="identity" in _names(options),
        **kwargs,
    )


def _names(options: Options) -> tuple[str, ...]:
    return options.operations or get_args(Name)


def _held(options: Options) -> tuple[Operation, ...]:
    names = dict.fromkeys(name for name in _names(options) if name != "identity")
    return nested_options.at_strength(tuple(names), options.magnitude)

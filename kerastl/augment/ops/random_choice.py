"""Do one of several operations to each image, each equally often.

Which one is drawn from the example's seed, independent of what the operations themselves draw.

Never: do two of them to one image, or any to an image that `apply_probability` leaves out.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Le

from kerastl.augment import nested_options
from kerastl.augment.nested_options import Operations
from kerastl.options import StrictModel

AT_STRENGTH = ("random_rotation", "random_translation", "random_brightness", "random_contrast")
"""Two that move pixels and two that change levels; all work on grey images."""


class Options(StrictModel):
    """Options of `random_choice`.

    Args:
        operations: one of these is done to each image, written as in `augment.operations`. One that holds others may
            stand among them, if it holds none that does.
        apply_probability: share of the images that are changed, 0 to 1.
    """

    RULES: ClassVar = (nested_options.check_nesting_depth,)
    operations: Operations
    apply_probability: Annotated[float, Ge(0), Le(1)] = 1.0


def is_identity(options: Options) -> bool:
    """Tell whether these options change nothing."""
    return nested_options.are_identities(options.operations)


def needs_color(options: Options) -> bool:
    """Tell whether one of the operations makes no sense on grey images."""
    return nested_options.any_needs_color(options.operations)


def at_strength(strength: float) -> Options:
    """Return options from 0, the identity, to 1: one of `AT_STRENGTH` at this strength."""
    return Options(operations=nested_options.at_strength(AT_STRENGTH, strength))


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Return the layer that stands in for keras-cv's, which takes each image through a whole layer of its own."""
    from kerastl.augment.layers.containers_layers import SomeOf

    return SomeOf(options.operations, **kwargs)

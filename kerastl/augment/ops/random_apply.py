"""Do several operations, in their order, to a share of the images: all of them or none.

Never: do some of them and not the others, or touch an image that `apply_probability` leaves out.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Le

from kerastl.augment import nested_options
from kerastl.augment.nested_options import Operations
from kerastl.options import StrictModel

AT_STRENGTH = ("random_rotation", "random_brightness", "random_contrast")
"""One that moves pixels and two that change levels; all work on grey images."""


class Options(StrictModel):
    """Options of `random_apply`.

    Args:
        operations: all of these are done, in this order, written as in `augment.operations`. One that holds others may
            stand among them, if it holds none that does.
        apply_probability: share of the images that they are done to, 0 to 1.
    """

    RULES: ClassVar = (nested_options.check_nesting_depth,)
    operations: Operations
    apply_probability: Annotated[float, Ge(0), Le(1)] = 0.5


def is_identity(options: Options) -> bool:
    """Tell whether these options change nothing."""
    return nested_options.are_identities(options.operations)


def needs_color(options: Options) -> bool:
    """Tell whether one of the operations makes no sense on grey images."""
    return nested_options.any_needs_color(options.operations)


def at_strength(strength: float) -> Options:
    """Return options from 0, the identity, to 1: `AT_STRENGTH`, each at this strength, on half of the images."""
    return Options(operations=nested_options.at_strength(AT_STRENGTH, strength))


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Return the layer that stands in for keras-cv's, which holds one layer and takes each image through it alone."""
    from kerastl.augment.layers.color_layers import SequentialOperations

    return SequentialOperations(options.operations, **kwargs)

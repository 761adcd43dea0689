"""Apply one of several operations to each image, all equally likely."""

from typing import Any, ClassVar

from kerastl.augment import operation_options
from kerastl.augment.operation_options import Operations
from kerastl.options import Fraction, StrictModel

AT_STRENGTH = ("random_rotation", "random_translation", "random_brightness", "random_contrast")
"""Two geometric and two level operations; all work on grayscale images."""


class Options(StrictModel):
    """Options of `random_choice`.

    Args:
        operations: Operations to choose from, written as in `augment.operations`. One level of nesting is
            allowed.
        apply_probability: Fraction of the images that are changed, 0 to 1.
    """

    RULES: ClassVar = (operation_options.check_nesting_depth,)
    operations: Operations
    apply_probability: Fraction = 1.0


def at_strength(strength: float) -> Options:
    """Return options for a strength from 0 (identity) to 1: one of `AT_STRENGTH` at this strength."""
    return Options(operations=operation_options.at_strength(AT_STRENGTH, strength))


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Build the layer. The layer of keras-cv processes images one by one."""
    from kerastl.augment.layers.containers_layers import SomeOf

    return SomeOf(options.operations, **kwargs)

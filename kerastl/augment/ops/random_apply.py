"""Apply a sequence of operations to a fraction of the images: all of them or none."""

from typing import Any, ClassVar

from kerastl.augment import operation_options
from kerastl.augment.operation_options import Operations
from kerastl.options import Fraction, StrictModel

AT_STRENGTH = ("random_rotation", "random_brightness", "random_contrast")
"""One geometric and two level operations; all work on grayscale images."""


class Options(StrictModel):
    """Options of `random_apply`.

    Args:
        operations: Operations in order, written as in `augment.operations`. One level of nesting is allowed.
        apply_probability: Fraction of the images that the operations are applied to, 0 to 1.
    """

    RULES: ClassVar = (operation_options.check_nesting_depth,)
    operations: Operations
    apply_probability: Fraction = 0.5


def at_strength(strength: float) -> Options:
    """Return options for a strength from 0 (identity) to 1: `AT_STRENGTH`, for half of the images."""
    return Options(operations=operation_options.at_strength(AT_STRENGTH, strength))


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Build the layer. The layer of keras-cv wraps one layer and processes images one by one."""
    from kerastl.augment.layers.containers_layers import SequentialOperations

    return SequentialOperations(options.operations, **kwargs)

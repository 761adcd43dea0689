"""Apply randomly chosen operations of one magnitude (RandAugment, Cubuk et al. 2019, arXiv:1909.13719).

The list is that of the paper, except that shear and translation act along both axes at once and
`random_saturation` takes the place of Color. At magnitude m each operation has the options `at_strength(m)`:
its strength is random up to m, where the paper uses m itself. Magnitude 0 leaves images unchanged; in
keras-cv 0.9.0 it does not.
"""

from typing import Annotated, Any, Literal, get_args

from annotated_types import Ge, Le

from kerastl.augment import operation_options
from kerastl.options import Fraction, StrictModel
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
        num_operations: Number of operations per image, applied in sequence, drawn with replacement.
        magnitude: Strength of the operations, 0 (identity) to 1.
        operations: Names of the operations to choose from. An empty list means all operations or, for grayscale
            images, all that support them. `identity` leaves the image unchanged.
        apply_probability: Fraction of the images that are changed, 0 to 1.
    """

    num_operations: Annotated[int, Ge(1), Le(16)] = 2
    magnitude: Fraction = 0.5
    operations: tuple[Name, ...] = ()
    apply_probability: Fraction = 1.0


def is_identity(options: Options) -> bool:
    """Return whether the options leave every image unchanged."""
    return operation_options.are_identities(_nested_operations(options))


def needs_color(options: Options) -> bool:
    """Return whether a requested operation requires color images."""
    return bool(options.operations) and operation_options.any_needs_color(_nested_operations(options))


def at_strength(strength: float) -> Options:
    """Return options for a strength from 0 (identity) to 1 (two operations of magnitude 1)."""
    return Options(magnitude=strength)


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Build the layer. The layer of keras-cv changes images at magnitude 0."""
    from kerastl.augment.layers.containers_layers import SomeOf

    return SomeOf(
        _nested_operations(options),
        num_operations=options.num_operations,
        include_identity="identity" in _operation_names(options),
        **kwargs,
    )


def _operation_names(options: Options) -> tuple[str, ...]:
    return options.operations or get_args(Name)


def _nested_operations(options: Options) -> tuple[Operation, ...]:
    names = dict.fromkeys(name for name in _operation_names(options) if name != "identity")
    return operation_options.at_strength(tuple(names), options.magnitude)

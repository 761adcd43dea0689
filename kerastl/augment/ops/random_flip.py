"""Mirror the picture, each way with probability one half."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le

MODES = {"horizontal": "horizontal", "vertical": "vertical", "both": "horizontal_and_vertical"}


@dataclass(frozen=True)
class Options:
    """Options of `random_flip`.

    Args:
        direction: `horizontal` swaps left and right, `vertical` top and bottom, `both` does either.
        apply_probability: share of the pictures that may be mirrored, 0 to 1.
    """

    direction: Literal["horizontal", "vertical", "both"] = "horizontal"
    apply_probability: Annotated[float, Ge(0), Le(1)] = 1.0


def is_identity(options: Options) -> bool:  # noqa: ARG001 - every operation is asked
    """Tell whether these options change nothing."""
    return False


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Return the keras-cv layer."""
    from keras_cv import layers

    return layers.RandomFlip(MODES[options.direction], rate=0.5, **kwargs)

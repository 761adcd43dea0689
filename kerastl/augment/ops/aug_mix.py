"""Blend an image with the results of several random chains of operations (AugMix).

Follows algorithm 1 of Hendrycks et al. 2020 (arXiv:1912.02781), without the consistency loss. Chain weights
follow Dirichlet(1, ..., 1), the weight of the original image Beta(1, 1). Shear and translation act along both
axes.

The result stays in [0, 255]. Severity 0 leaves the image unchanged.
"""

from typing import Annotated, Any

from annotated_types import Ge, Le

from kerastl.augment import operation_options
from kerastl.augment.operation_options import Extreme
from kerastl.options import Fraction, StrictModel

OPERATIONS = (
    "auto_contrast",
    "equalization",
    "posterization",
    "random_rotation",
    "solarization",
    "random_shear",
    "random_translation",
)


class Options(StrictModel):
    """Options of `aug_mix`.

    Args:
        severity: Maximum strength of the operations, 0 (identity) to 1. Severity 3 of 10 in the paper is 0.3.
        num_chains: Number of chains.
        max_depth: Maximum number of operations per chain; depths from 1 on are equally likely.
        apply_probability: Fraction of the images that are changed, 0 to 1.
    """

    severity: Fraction = 0.3
    num_chains: Annotated[int, Ge(1), Le(16)] = 3
    max_depth: Annotated[int, Ge(1), Le(16)] = 3
    apply_probability: Fraction = 1.0


def at_strength(strength: float) -> Options:
    """Return options for a strength from 0 (identity) to 1 (three chains of severity 1)."""
    return Options(severity=strength)


def extremes(options: Options) -> list[Extreme]:  # noqa: ARG001 - part of the interface
    """Return the strongest settings for the preview."""
    return []  # random chains have no extremes


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Build the layer. The layer of keras-cv rotates images by up to 9 radians."""
    from kerastl.augment.layers.containers_layers import AugMix

    return AugMix(operation_options.at_strength(OPERATIONS, options.severity), options, **kwargs)

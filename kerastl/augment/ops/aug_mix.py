"""AugMix (Hendrycks et al. 2020, arXiv:1912.02781, algorithm 1): mix an image with the ends of some chains of operations.

Each chain is one to `max_depth` operations long, drawn anew for each image. The chains' shares among each other are
from Dirichlet(1, ..., 1), and the image's own share from Beta(1, 1), which is uniform, both as in the paper. So is the list: auto-contrast,
equalization, posterization, rotation, solarization, shear and translation, the last two along both axes at once. Each is done
at the strength of `severity`, drawn for each image up to it. The consistency loss of the paper is not part
of it.

Never: leave [0, 255]; move a pixel further than one of its chains does; change an image at severity 0.
"""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Le

from kerastl.augment import nested_options
from kerastl.options import StrictModel

LINKS = (
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
        severity: strength of the operations, from 0, nothing, to 1; the paper's 3 of 10 is 0.3.
        num_chains: how many chains are mixed.
        max_depth: most operations in a chain; each number from 1 on equally often.
        apply_probability: share of the images that are changed, 0 to 1.
    """

    severity: Annotated[float, Ge(0), Le(1)] = 0.3
    num_chains: Annotated[int, Ge(1), Le(16)] = 3
    max_depth: Annotated[int, Ge(1), Le(16)] = 3
    apply_probability: Annotated[float, Ge(0), Le(1)] = 1.0


def is_identity(options: Options) -> bool:
    """Tell whether these options change nothing."""
    return options.severity == 0


def at_strength(strength: float) -> Options:
    """Return options from 0, the identity, to 1: three chains of this severity."""
    return Options(severity=strength)


def build_layer(options: Options, **kwargs: Any) -> Any:
    """Return the layer that stands in for keras-cv's, which turns images by up to nine radians."""
    from kerastl.augment.layers.containers_layers import AugMix

    return AugMix(
        nested_options.at_strength(LINKS, options.severity),
        num_chains=options.num_chains,
        max_depth=options.max_depth,
        **kwargs,
    )

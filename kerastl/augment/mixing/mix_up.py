"""Lay two images over each other: every pixel, and the label, is `(1 - w) * own + w * partner`.

Never: take more of the label than of the image; leave the range that the two images span.

keras-cv 0.9.0 mixes images and labels in its compute type, so that half floats round them; its numbers do not
repeat with a seed; alpha 0 mixes half and half, where Beta's limit is all or nothing; and one image in a batch, on
average, is its own partner. None of this holds here.

Reference:
    Zhang et al. 2018, arXiv:1710.09412, section 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from annotated_types import Ge, Le

from kerastl.options import StrictModel


class Options(StrictModel):
    """Options of `mix_up`.

    Args:
        alpha: the partner's weight is drawn from Beta(alpha, alpha): near 0 or 1 when small, even at 1, near
            one half when large; 0 mixes nothing.
        apply_probability: share of the images that are mixed, 0 to 1.
    """

    alpha: Annotated[float, Ge(0), Le(100)] = 0.2
    apply_probability: Annotated[float, Ge(0), Le(1)] = 1.0


def is_identity(options: Options) -> bool:
    """Return whether the options leave every image unchanged."""
    return options.alpha == 0


def build_share(options: Options, *, image_size_px: int) -> Callable[[Any, Any], Any]:  # noqa: ARG001 - part of the contract
    """Return `share(generator, batch_size) -> [batch, 1, 1, 1]` float32: the partner's weight."""
    from kerastl.augment.stateless_random import build_beta

    beta = build_beta(options.alpha)
    return lambda generator, batch_size: beta(generator.uniform([batch_size, 1, 1, 1]))

"""Average two images and their labels: `(1 - w) * image + w * partner`.

keras-cv 0.9.0 mixes labels in the compute dtype, which may be float16, is not reproducible, averages with
equal weights at alpha 0, and mixes one image per batch, on average, with itself.

Reference:
    Zhang et al. 2018, arXiv:1710.09412, section 1.
"""

from collections.abc import Callable
from typing import Annotated, Any

from annotated_types import Ge, Le

from kerastl.options import Fraction, StrictModel


class Options(StrictModel):
    """Options of `mix_up`.

    Args:
        alpha: The partner's weight follows Beta(alpha, alpha): near 0 or 1 for small alpha, uniform at 1,
            near one half for large alpha. 0 is the identity.
        apply_probability: Fraction of the images that are mixed, 0 to 1.
    """

    alpha: Annotated[float, Ge(0), Le(100)] = 0.2
    apply_probability: Fraction = 1.0


def build_weights(options: Options, *, image_size_px: tuple[int, int]) -> Callable[[Any, Any], Any]:  # noqa: ARG001 - part of the interface
    """Return a function from (generator, batch_size) to weights `[batch, 1, 1, 1]` float32."""
    from kerastl.augment.stateless_random import build_beta

    beta = build_beta(options.alpha)
    return lambda generator, batch_size: beta(generator.uniform([batch_size, 1, 1, 1]))

"""FDA: source images are learnt with the low frequencies of the target's: its shading, brightness and colour.

`mean(-log p(y))` over source images `inverse(M_beta * A(target) * exp(i P(source)) + (1 - M_beta) * F(source))`, A and P the amplitude and
phase of the Fourier transform F of a channel, M_beta 1 for frequencies up to `floor(beta * side)` cycles an image; and, with `beside`, over the images
as they are, both counting the same. The paper learns the restyled images alone, and adds a loss of entropy and self-training on the target, which
are methods of their own (`mcc`, `pseudo_labels`).

Reference: Yang & Soatto 2020, arXiv:2004.05498, equations 1 and 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Gt, Le

from kerastl.adaptation.method import Method
from kerastl.options import StrictModel

if TYPE_CHECKING:
    from kerastl.adaptation.adaptation_step import AdaptationStep

METHOD = Method(reference="Yang & Soatto 2020, arXiv:2004.05498", learns="head", changes_pixels=True)


class Options(StrictModel):
    """Options of `fda`.

    Args:
        beta: half the side of the window of frequencies, as a share of the image's side; 0.01, 0.05 and 0.09 in the paper. Where
            it is below one pixel, the mean of each channel alone is replaced.
        share: probability that a source image is restyled; the others stay as they are.
        beside: the source images as they are are learnt, too.
    """

    beta: Annotated[float, Ge(0), Le(0.5)] = 0.01
    share: Annotated[float, Gt(0), Le(1)] = 1.0
    beside: bool = True


def build(options: Options, **given: Any) -> AdaptationStep:
    """Return the step; `given` as in `AdaptationStep`."""
    from kerastl.adaptation.styles import Restyled, fourier_style

    def style(images: Any, styles: Any) -> Any:
        return fourier_style(images, styles, beta=options.beta)

    return Restyled(style, share=options.share, beside=options.beside, **given)

"""FDA: trains on source images with the low frequencies of a target image: its shading, brightness and color.

`mean(-log p(y))` over source images `inverse(M_beta * A(target) * exp(i P(source)) + (1 - M_beta) *
F(source))`, A and P the amplitude and phase of the Fourier transform F of a channel, M_beta 1 for frequencies
up to `floor(beta * side)` cycles per image; with `beside`, averaged with that of the original images. The
paper trains on restyled images only, and adds an entropy loss and self-training on the target, which are
separate methods here (`mcc`, `pseudo_labels`).

Reference: Yang & Soatto 2020, arXiv:2004.05498, equations 1 and 2.
"""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Le

from kerastl.adaptation.adaptation_step import AdaptationStep
from kerastl.adaptation.method import Method, Share
from kerastl.options import StrictModel

METHOD = Method(
    reference="Yang & Soatto 2020, arXiv:2004.05498",
    learns="head",
    changes_pixels=True,
    transfers_styles=True,
)


class Options(StrictModel):
    """Options of `fda`.

    Args:
        beta: Half the side of the frequency window, as a fraction of the image side; 0.01, 0.05 and 0.09 in
            the paper. If it is below one pixel, only the mean of each channel is replaced.
        share: Probability that a source image is restyled.
        beside: Also train on the original source images, with the same weight.
    """

    beta: Annotated[float, Ge(0), Le(0.5)] = 0.01
    share: Share = 1.0
    beside: bool = True


def build(options: Options, **step_arguments: Any) -> AdaptationStep:
    """Return the step."""
    from kerastl.adaptation.styles import StyleTransferStep, fourier_style

    def style(images: Any, styles: Any) -> Any:
        return fourier_style(images, styles, beta=options.beta)

    return StyleTransferStep(style, share=options.share, beside=options.beside, **step_arguments)

"""Histogram matching: trains on source images with the histogram of a target image.

`mean(-log p(y))` over source images with channels `C_target^-1(C_source(x))`, C the cumulative histogram of
one image; with `beside`, averaged with that of the original images. `histogram_style` describes how levels
and ties are treated.

Reference: Gonzalez & Woods 2008, Digital Image Processing, section 3.3.2; for scanners Nyul & Udupa 1999,
doi 10.1002/(SICI)1522-2594(199912)42:6<1072::AID-MRM11>3.0.CO;2-M.
"""

from __future__ import annotations

from typing import Any

from kerastl.adaptation.adaptation_step import AdaptationStep
from kerastl.adaptation.method import Method, Share
from kerastl.options import StrictModel

METHOD = Method(
    reference="Gonzalez & Woods 2008, Digital Image Processing, section 3.3.2",
    learns="head",
    changes_pixels=True,
    transfers_styles=True,
)


class Options(StrictModel):
    """Options of `histogram_matching`.

    Args:
        share: Probability that a source image is restyled.
        beside: Also train on the original source images, with the same weight.
    """

    share: Share = 1.0
    beside: bool = True


def build(options: Options, **step_arguments: Any) -> AdaptationStep:
    """Return the step."""
    from kerastl.adaptation.styles import StyleTransferStep, histogram_style

    return StyleTransferStep(histogram_style, share=options.share, beside=options.beside, **step_arguments)

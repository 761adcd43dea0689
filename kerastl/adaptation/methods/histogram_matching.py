"""Histogram matching: source images are learnt with the grey levels of the target's.

`mean(-log p(y))` over source images whose every channel has become `C_target^-1(C_source(x))`, C the cumulative histogram of one image; and, with
`beside`, over the images as they are, both counting the same. How levels and ties are taken: see `histogram_style`.

Reference: Gonzalez & Woods 2008, Digital Image Processing, section 3.3.2; for scanners Nyul & Udupa 1999,
doi 10.1002/(SICI)1522-2594(199912)42:6<1072::AID-MRM11>3.0.CO;2-M.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Gt, Le

from kerastl.adaptation.method import Method
from kerastl.options import StrictModel

if TYPE_CHECKING:
    from kerastl.adaptation.adaptation_step import AdaptationStep

METHOD = Method(
    reference="Gonzalez & Woods 2008, Digital Image Processing, section 3.3.2",
    learns="head",
    changes_pixels=True,
)


class Options(StrictModel):
    """Options of `histogram_matching`.

    Args:
        share: probability that a source image is restyled; the others stay as they are.
        beside: the source images as they are are learnt, too.
    """

    share: Annotated[float, Gt(0), Le(1)] = 1.0
    beside: bool = True


def build(options: Options, **given: Any) -> AdaptationStep:
    """Return the step; `given` as in `AdaptationStep`."""
    from kerastl.adaptation.styles import Restyled, histogram_style

    return Restyled(histogram_style, share=options.share, beside=options.beside, **given)

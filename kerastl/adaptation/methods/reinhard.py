"""Reinhard's colour transfer: source images are learnt with the mean and spread of the target's colours.

`mean(-log p(y))` over source images whose channels have become `(x - mean) * std_target / std + mean_target`; and, with `beside`, over the
images as they are, both counting the same. Colour in l-alpha-beta, grey (three equal channels) in its grey levels: see `reinhard_style`. The paper
restyles single images and trains nothing.

Reference: Reinhard et al. 2001, doi 10.1109/38.946629, equations 10 and 11.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Gt, Le

from kerastl.adaptation.method import Method
from kerastl.options import StrictModel

if TYPE_CHECKING:
    from kerastl.adaptation.adaptation_step import AdaptationStep

METHOD = Method(reference="Reinhard et al. 2001, doi 10.1109/38.946629", learns="head", changes_pixels=True)


class Options(StrictModel):
    """Options of `reinhard`.

    Args:
        share: probability that a source image is restyled; the others stay as they are.
        beside: the source images as they are are learnt, too.
    """

    share: Annotated[float, Gt(0), Le(1)] = 1.0
    beside: bool = True


def build(options: Options, **given: Any) -> AdaptationStep:
    """Return the step; `given` as in `AdaptationStep`."""
    from kerastl.adaptation.styles import Restyled, reinhard_style

    return Restyled(reinhard_style, share=options.share, beside=options.beside, **given)

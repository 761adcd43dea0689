"""No adaptation: classification of the source alone, what every other method is measured against.

`mean(-log p(y))` over labelled source images. Where BatchNorm follows the images, its statistics are the source's.

Reference: none; the baseline of Ben-David et al. 2010, doi 10.1007/s10994-009-5152-4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kerastl.adaptation.method import Method
from kerastl.options import StrictModel

if TYPE_CHECKING:
    from kerastl.adaptation.adaptation_step import AdaptationStep

METHOD = Method(reference="Ben-David et al. 2010, doi 10.1007/s10994-009-5152-4", learns="head")


class Options(StrictModel):
    """`source_only` has no options."""


def build(options: Options, **given: Any) -> AdaptationStep:  # noqa: ARG001 - part of the contract
    """Return the step; `given` as in `AdaptationStep`."""
    from kerastl.adaptation.steps import SourceOnly

    return SourceOnly(**given)

"""No adaptation: trains on the source only. The baseline for all other methods.

`mean(-log p(y))` over labeled source images. If BatchNorm is in training mode, its statistics are those of
the source.

Reference: none; the baseline of Ben-David et al. 2010, doi 10.1007/s10994-009-5152-4.
"""

from __future__ import annotations

from typing import Any

from kerastl.adaptation.adaptation_step import AdaptationStep, SourceStep
from kerastl.adaptation.method import Method
from kerastl.options import StrictModel

METHOD = Method(reference="Ben-David et al. 2010, doi 10.1007/s10994-009-5152-4", learns="head")


class Options(StrictModel):
    """`source_only` has no options."""


def build(options: Options, **step_arguments: Any) -> AdaptationStep:  # noqa: ARG001 - part of the contract
    """Return the step."""
    return SourceStep(**step_arguments)

"""CORAL: the covariances of the features of both domains are brought together.

`classification + weight * |C_source - C_target|^2 / (4 d^2)` on the features that the head reads; the paper takes the last layer's logits, and
weighs so that both terms end up equally large.

Reference: Sun & Saenko 2016, arXiv:1607.01719, equations 1 and 6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Le

from kerastl.adaptation.method import Method
from kerastl.options import StrictModel

if TYPE_CHECKING:
    from kerastl.adaptation.adaptation_step import AdaptationStep

METHOD = Method(
    reference="Sun & Saenko 2016, arXiv:1607.01719", assumes_equal_prevalence=True, aligns=("coral_loss",)
)


class Options(StrictModel):
    """Options of `coral`.

    Args:
        weight: of the distance beside classification; the distance is small, being divided by the square of the number of features.
    """

    weight: Annotated[float, Ge(0), Le(1e6)] = 100.0


def build(options: Options, **given: Any) -> AdaptationStep:
    """Return the step; `given` as in `AdaptationStep`."""
    from kerastl.adaptation.adaptation_step import Seen, TwoDomains
    from kerastl.adaptation.alignment_losses import coral_loss

    def watch(source: Seen, target: Seen, progress: Any) -> dict[str, Any]:  # noqa: ARG001
        return {"coral_loss": options.weight * coral_loss(source.features, target.features)}

    return TwoDomains(watch, **given)

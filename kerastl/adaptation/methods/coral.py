"""CORAL: aligns the covariances of the features.

`classification + weight * |C_source - C_target|^2 / (4 d^2)` on the input of the head. The paper uses the
logits of the last layer, and a weight with which both terms are equally large at the end.

Reference: Sun & Saenko 2016, arXiv:1607.01719, equations 1 and 6.
"""

from __future__ import annotations

from typing import Any

from kerastl import adaptation
from kerastl.adaptation.adaptation_step import DomainOutputs, TwoDomainStep
from kerastl.adaptation.method import Method, Weight
from kerastl.options import StrictModel

METHOD = Method(
    reference="Sun & Saenko 2016, arXiv:1607.01719", assumes_equal_prevalence=True, distances=("coral_loss",)
)


class Options(StrictModel):
    """Options of `coral`.

    Args:
        weight: Weight of the distance, which is small because it is divided by the squared number of
            features.
    """

    weight: Weight = 100.0


def build(options: Options, **step_arguments: Any) -> TwoDomainStep:
    """Return the step."""

    def losses(source: DomainOutputs, target: DomainOutputs, progress: Any) -> dict[str, Any]:  # noqa: ARG001
        return {"coral_loss": options.weight * adaptation.coral_loss(source.features, target.features)}

    return TwoDomainStep(losses, **step_arguments)

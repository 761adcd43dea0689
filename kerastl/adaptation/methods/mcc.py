"""MCC: minimizes the confusion between classes on the target.

`classification + weight * class confusion of the target batch`, see `class_confusion_loss`. A batch should
hold more target images than there are classes.

Reference: Jin et al. 2020, arXiv:1912.03699, section 3.
"""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Gt, Le

from kerastl import adaptation
from kerastl.adaptation.adaptation_step import DomainOutputs, TwoDomainStep
from kerastl.adaptation.method import Method, Weight
from kerastl.options import StrictModel

METHOD = Method(reference="Jin et al. 2020, arXiv:1912.03699", learns="head")


class Options(StrictModel):
    """Options of `mcc`.

    Args:
        weight: Weight of the confusion relative to classification; 1 in the paper.
        temperature: Divisor of the logits; 2.5 in the paper.
    """

    weight: Weight = 1.0
    temperature: Annotated[float, Gt(0), Le(100)] = 2.5


def build(options: Options, **step_arguments: Any) -> TwoDomainStep:
    """Return the step."""

    def losses(source: DomainOutputs, target: DomainOutputs, progress: Any) -> dict[str, Any]:  # noqa: ARG001
        confusion = adaptation.class_confusion_loss(target.logits, temperature=options.temperature)
        return {"confusion_loss": options.weight * confusion}

    return TwoDomainStep(losses, **step_arguments)

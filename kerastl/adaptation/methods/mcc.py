"""MCC: predictions on the target must not waver between the same pairs of classes.

`classification + weight * class confusion of the target batch`, see `class_confusion_loss`. A batch should hold more images of the target than there
are classes.

Reference: Jin et al. 2020, arXiv:1912.03699, section 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Gt, Le

from kerastl.adaptation.method import Method
from kerastl.options import StrictModel

if TYPE_CHECKING:
    from kerastl.adaptation.adaptation_step import AdaptationStep

METHOD = Method(reference="Jin et al. 2020, arXiv:1912.03699", learns="head")


class Options(StrictModel):
    """Options of `mcc`.

    Args:
        weight: of the confusion beside classification; 1 in the paper.
        temperature: logits are divided by it; 2.5 in the paper.
    """

    weight: Annotated[float, Ge(0), Le(1e6)] = 1.0
    temperature: Annotated[float, Gt(0), Le(100)] = 2.5


def build(options: Options, **given: Any) -> AdaptationStep:
    """Return the step; `given` as in `AdaptationStep`."""
    from kerastl.adaptation.adaptation_step import Seen, TwoDomains
    from kerastl.adaptation.alignment_losses import class_confusion_loss

    def watch(source: Seen, target: Seen, progress: Any) -> dict[str, Any]:  # noqa: ARG001
        confusion = class_confusion_loss(target.logits, temperature=options.temperature)
        return {"confusion_loss": options.weight * confusion}

    return TwoDomains(watch, **given)

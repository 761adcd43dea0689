"""Pseudo-labels: the network learns from its own sure answers on the target.

`classification + weight * mean(1[max q >= threshold] * -log p(argmax q))`, p and q the same answers, q without gradient: the loss makes
sure predictions surer, from the first step on, and needs no second view of an image, so that it works on cached features, too (with a second view:
`fixmatch`). `confident` tells the share of the target batch that is sure enough.

Reference: Lee 2013, ICML workshop on challenges in representation learning; the threshold is that of Sohn et al. 2020, arXiv:2001.07685, equation 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Le

from kerastl.adaptation.method import Method
from kerastl.options import StrictModel

if TYPE_CHECKING:
    from kerastl.adaptation.adaptation_step import AdaptationStep

METHOD = Method(reference="Lee 2013, ICML workshop", learns="head")


class Options(StrictModel):
    """Options of `pseudo_labels`.

    Args:
        weight: of the target beside classification; 1 in the paper.
        threshold: probability from which an answer is sure; 0.95 in the paper.
    """

    weight: Annotated[float, Ge(0), Le(1e6)] = 1.0
    threshold: Annotated[float, Ge(0), Le(1)] = 0.95


def build(options: Options, **given: Any) -> AdaptationStep:
    """Return the step; `given` as in `AdaptationStep`."""
    from kerastl.adaptation.adaptation_step import Seen, TwoDomains
    from kerastl.adaptation.alignment_losses import pseudo_label_loss

    def watch(source: Seen, target: Seen, progress: Any) -> dict[str, Any]:  # noqa: ARG001
        loss, share = pseudo_label_loss(target.logits, threshold=options.threshold)
        return {"pseudo_label_loss": options.weight * loss, "confident": share}

    return TwoDomains(watch, metric_names=("confident",), **given)

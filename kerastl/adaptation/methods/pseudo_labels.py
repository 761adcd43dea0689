"""Pseudo-labels: trains on its own confident predictions on the target.

`classification + weight * mean(1[max q >= threshold] * -log p(argmax q))`, where q is the same prediction as
p without gradient. The loss makes confident predictions more confident, from the first step on. It needs no
second view of an image (unlike `fixmatch`), so it works on cached features. `confident` is the fraction of
the target batch above the threshold.

Reference: Lee 2013, ICML workshop on challenges in representation learning; the threshold is that of Sohn et
al. 2020, arXiv:2001.07685, equation 4.
"""

from __future__ import annotations

from typing import Any

from kerastl import adaptation
from kerastl.adaptation.adaptation_step import DomainOutputs, TwoDomainStep
from kerastl.adaptation.method import Method, Weight
from kerastl.options import Fraction, StrictModel

METHOD = Method(reference="Lee 2013, ICML workshop", learns="head")


class Options(StrictModel):
    """Options of `pseudo_labels`.

    Args:
        weight: Weight of the target loss relative to classification; 1 in the paper.
        threshold: Probability above which a prediction is used as a label; 0.95 in the paper.
    """

    weight: Weight = 1.0
    threshold: Fraction = 0.95


def build(options: Options, **step_arguments: Any) -> TwoDomainStep:
    """Return the step."""

    def losses(source: DomainOutputs, target: DomainOutputs, progress: Any) -> dict[str, Any]:  # noqa: ARG001
        loss, confident = adaptation.pseudo_label_loss(target.logits, threshold=options.threshold)
        return {"pseudo_label_loss": options.weight * loss, "confident": confident}

    return TwoDomainStep(losses, metric_names=("confident",), **step_arguments)

"""MDD: trains features against a second head that maximizes disagreement on the target.

`classification + margin_disparity_loss`. The second head minimizes the latter; its gradient with respect to
the features is multiplied by `-strength * lambda_p`, with the schedule of `dann`. In the paper, both heads
have a hidden layer after a shared bottleneck. Here both are a single layer, like the head of the classifier.

Reference: Zhang et al. 2019, arXiv:1904.05801, section 5.
"""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Gt, Le

from kerastl import adaptation
from kerastl.adaptation.adaptation_step import DomainOutputs, TwoDomainStep
from kerastl.adaptation.method import Method
from kerastl.options import StrictModel

METHOD = Method(reference="Zhang et al. 2019, arXiv:1904.05801", assumes_equal_prevalence=True)


class Options(StrictModel):
    """Options of `mdd`.

    Args:
        margin: Factor of the source term, the exponential of the margin; 2, 3 or 4 in the paper.
        strength: Strength of the reversed gradient at the end of the phase; 0.1 in the paper.
        steepness: How fast the strength increases.
    """

    margin: Annotated[float, Ge(1), Le(100)] = 4.0
    strength: Annotated[float, Ge(0), Le(100)] = 0.1
    steepness: Annotated[float, Gt(0), Le(1000)] = 10.0


def build(
    options: Options, *, num_classes: int, num_features: int, seed: int, **step_arguments: Any
) -> TwoDomainStep:
    """Return the step."""
    from kerastl.adaptation.features import build_second_head

    second_head = build_second_head(num_features, num_classes, seed=seed)

    def losses(source: DomainOutputs, target: DomainOutputs, progress: Any) -> dict[str, Any]:
        strength = options.strength * adaptation.reversal_strength(progress, options.steepness)
        logits: list[Any] = []
        for outputs in (source, target):
            logits += [outputs.logits, second_head(adaptation.reverse_gradient(outputs.features, strength))]
        return {"disparity_loss": adaptation.margin_disparity_loss(*logits, margin=options.margin)}

    return TwoDomainStep(
        losses, variables=second_head.trainable_variables, num_classes=num_classes,
        num_features=num_features, seed=seed, **step_arguments,
    )  # fmt: skip

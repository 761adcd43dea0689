"""MDD: features are learnt on which a second head cannot agree with the first on the source and disagree on the target.

`classification + margin_disparity_loss`, the second head minimising the latter; its gradient reaches the features multiplied by `-strength * lambda_p`,
with the schedule of `dann`. The paper gives both heads a hidden layer behind a shared bottleneck: both are one layer, as the
classifier's head is.

Reference: Zhang et al. 2019, arXiv:1904.05801, section 5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Gt, Le

from kerastl.adaptation.method import Method
from kerastl.options import StrictModel

if TYPE_CHECKING:
    from kerastl.adaptation.adaptation_step import AdaptationStep

METHOD = Method(reference="Zhang et al. 2019, arXiv:1904.05801", assumes_equal_prevalence=True)


class Options(StrictModel):
    """Options of `mdd`.

    Args:
        margin: factor of the source, the exponential of the margin; 2, 3 or 4 in the paper.
        strength: of the reversed gradient at the end of the phase; 0.1 in the paper.
        steepness: how soon it gets there.
    """

    margin: Annotated[float, Ge(1), Le(100)] = 4.0
    strength: Annotated[float, Ge(0), Le(100)] = 0.1
    steepness: Annotated[float, Gt(0), Le(1000)] = 10.0


def build(
    options: Options, *, num_classes: int, num_features: int, seed: int, **given: Any
) -> AdaptationStep:
    """Return the step; arguments as in `AdaptationStep`."""
    from kerastl.adaptation.adaptation_step import Seen, TwoDomains, build_second_head
    from kerastl.adaptation.alignment_losses import margin_disparity_loss, reversal_strength, reverse_gradient

    second = build_second_head(num_features, num_classes, seed=seed)

    def watch(source: Seen, target: Seen, progress: Any) -> dict[str, Any]:
        strength = options.strength * reversal_strength(progress, options.steepness)
        answers: list[Any] = []
        for one in (source, target):
            answers += [one.logits, second(reverse_gradient(one.features, strength))]
        return {"disparity_loss": margin_disparity_loss(*answers, margin=options.margin)}

    return TwoDomains(
        watch, variables=second.trainable_variables, num_classes=num_classes,
        num_features=num_features, seed=seed, **given,
    )  # fmt: skip

"""SHOT: a trained classifier keeps its head and learns features that fit it on the target.

`mean(H) + sum(m log m) + pseudo_label_weight * mean(-log p(y))`: H the entropy of a prediction, m the mean prediction, y the class of the nearest
centroid of features, see `centroid_labels`. The head is frozen: its weights are constants of the loss and get a
gradient of 0. Labels are made when the phase begins and anew after each epoch, of the plain images of the whole target. The paper's bottleneck and weight-normalised head are not added.

The second term assumes that the classes are equally frequent in the target.

Reference: Liang et al. 2020, arXiv:2002.08546, equations 3 to 7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Le

from kerastl.adaptation.method import Method
from kerastl.options import StrictModel

if TYPE_CHECKING:
    from kerastl.adaptation.adaptation_step import AdaptationStep

METHOD = Method(
    reference="Liang et al. 2020, arXiv:2002.08546",
    source_free=True,
    assumes_equal_prevalence=True,
    freezes_head=True,
)


class Options(StrictModel):
    """Options of `shot`.

    Args:
        diversity_weight: of the second term; 1 in the paper, 0 where classes are not equally frequent.
        pseudo_label_weight: of the third; 0.3 in the paper.
    """

    diversity_weight: Annotated[float, Ge(0), Le(100)] = 1.0
    pseudo_label_weight: Annotated[float, Ge(0), Le(100)] = 0.3


def build(options: Options, **given: Any) -> AdaptationStep:
    """Return the step; `given` as in `AdaptationStep`."""
    from kerastl.adaptation.steps import Shot

    return Shot(
        diversity_weight=options.diversity_weight, pseudo_label_weight=options.pseudo_label_weight, **given
    )

"""JAN: the joint distributions of features and predictions of both domains are brought together.

`classification + weight * JMMD`, the discrepancy under the product of a kernel of the features and one of the predicted probabilities. The paper
multiplies the kernels of several layers, with one fixed bandwidth for the predictions: taken are the features that the head reads and its
answer, both by several bandwidths.

Reference: Long et al. 2017, arXiv:1605.06636, section 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Le

from kerastl.adaptation.method import Method
from kerastl.options import StrictModel

if TYPE_CHECKING:
    from kerastl.adaptation.adaptation_step import AdaptationStep

METHOD = Method(
    reference="Long et al. 2017, arXiv:1605.06636",
    assumes_equal_prevalence=True,
    learns="head",
    aligns=("joint_mmd_loss",),
)


class Options(StrictModel):
    """Options of `jan`.

    Args:
        weight: of the distance beside classification.
        estimate: `biased` or `unbiased`, see `mmd_loss`.
    """

    weight: Annotated[float, Ge(0), Le(1e6)] = 1.0
    estimate: Literal["biased", "unbiased"] = "biased"


def build(options: Options, **given: Any) -> AdaptationStep:
    """Return the step; `given` as in `AdaptationStep`."""
    import tensorflow as tf

    from kerastl.adaptation.adaptation_step import Seen, TwoDomains
    from kerastl.adaptation.alignment_losses import joint_mmd_loss

    def watch(source: Seen, target: Seen, progress: Any) -> dict[str, Any]:  # noqa: ARG001
        parts = [(one.features, tf.nn.softmax(one.logits)) for one in (source, target)]
        distance = joint_mmd_loss(*parts, estimate=options.estimate)
        return {"joint_mmd_loss": options.weight * distance}

    return TwoDomains(watch, **given)

"""JAN: aligns the joint distributions of features and predictions.

`classification + weight * JMMD`, the discrepancy under the product of a kernel of the features and one of the
predicted probabilities. The paper multiplies the kernels of several layers, with a fixed bandwidth for the
predictions. Here the kernels are those of the head's input and output, each with several bandwidths.

Reference: Long et al. 2017, arXiv:1605.06636, section 4.
"""

from __future__ import annotations

from typing import Any, Literal

from kerastl import adaptation
from kerastl.adaptation.adaptation_step import DomainOutputs, TwoDomainStep
from kerastl.adaptation.method import Method, Weight
from kerastl.options import StrictModel

METHOD = Method(
    reference="Long et al. 2017, arXiv:1605.06636",
    assumes_equal_prevalence=True,
    learns="head",
    distances=("joint_mmd_loss",),
)


class Options(StrictModel):
    """Options of `jan`.

    Args:
        weight: Weight of the distance relative to classification.
        estimate: `biased` or `unbiased`, see `mmd_loss`.
    """

    weight: Weight = 1.0
    estimate: Literal["biased", "unbiased"] = "biased"


def build(options: Options, **step_arguments: Any) -> TwoDomainStep:
    """Return the step."""
    import tensorflow as tf

    def losses(source: DomainOutputs, target: DomainOutputs, progress: Any) -> dict[str, Any]:  # noqa: ARG001
        parts = [(outputs.features, tf.nn.softmax(outputs.logits)) for outputs in (source, target)]
        distance = adaptation.joint_mmd_loss(*parts, estimate=options.estimate)
        return {"joint_mmd_loss": options.weight * distance}

    return TwoDomainStep(losses, **step_arguments)

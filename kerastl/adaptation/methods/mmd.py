"""DAN: aligns the mean embeddings of the features, with several Gaussian kernels.

`classification + weight * MMD^2(source features, target features)`. The paper aligns several dense layers and
trains the weights of the kernels. Here the input of the head is aligned, with equal weights. `estimate:
biased` is the distance between the two batches, `unbiased` estimates that between the domains and may be
negative.

Reference: Long et al. 2015, arXiv:1502.02791, section 3.
"""

from __future__ import annotations

from typing import Any, Literal

from kerastl import adaptation
from kerastl.adaptation.adaptation_step import DomainOutputs, TwoDomainStep
from kerastl.adaptation.method import Method, Weight
from kerastl.options import StrictModel

METHOD = Method(
    reference="Long et al. 2015, arXiv:1502.02791", assumes_equal_prevalence=True, distances=("mmd_loss",)
)


class Options(StrictModel):
    """Options of `mmd`.

    Args:
        weight: Weight of the distance relative to classification.
        estimate: `biased` or `unbiased`, see `mmd_loss`.
    """

    weight: Weight = 1.0
    estimate: Literal["biased", "unbiased"] = "biased"


def build(options: Options, **step_arguments: Any) -> TwoDomainStep:
    """Return the step."""

    def losses(source: DomainOutputs, target: DomainOutputs, progress: Any) -> dict[str, Any]:  # noqa: ARG001
        distance = adaptation.mmd_loss(source.features, target.features, estimate=options.estimate)
        return {"mmd_loss": options.weight * distance}

    return TwoDomainStep(losses, **step_arguments)

"""DAN: the mean embeddings of the features of both domains are brought together, by several Gaussian kernels.

`classification + weight * MMD^2(source features, target features)`. The paper adapts several fully connected layers and learns the weights of its
kernels; the features that the head reads are adapted, with equal weights. `estimate: biased` is the distance of the two batches themselves;
`unbiased` that of the domains, which may be below 0.

Reference: Long et al. 2015, arXiv:1502.02791, section 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Le

from kerastl.adaptation.method import Method
from kerastl.options import StrictModel

if TYPE_CHECKING:
    from kerastl.adaptation.adaptation_step import AdaptationStep

METHOD = Method(
    reference="Long et al. 2015, arXiv:1502.02791", assumes_equal_prevalence=True, aligns=("mmd_loss",)
)


class Options(StrictModel):
    """Options of `mmd`.

    Args:
        weight: of the distance beside classification.
        estimate: `biased` or `unbiased`, see `mmd_loss`.
    """

    weight: Annotated[float, Ge(0), Le(1e6)] = 1.0
    estimate: Literal["biased", "unbiased"] = "biased"


def build(options: Options, **given: Any) -> AdaptationStep:
    """Return the step; `given` as in `AdaptationStep`."""
    from kerastl.adaptation.adaptation_step import Seen, TwoDomains
    from kerastl.adaptation.alignment_losses import mmd_loss

    def watch(source: Seen, target: Seen, progress: Any) -> dict[str, Any]:  # noqa: ARG001
        distance = mmd_loss(source.features, target.features, estimate=options.estimate)
        return {"mmd_loss": options.weight * distance}

    return TwoDomains(watch, **given)

"""AdaBN: the statistics of BatchNorm are the target's, everything else is learnt from the source.

Training normalises each source batch by itself; before an evaluation the running mean and variance of each layer are set to those of the
target's training images, by the exact two-pass estimate. No loss sees the target. The paper averages the statistics of batches online; this
estimate is what that converges to.

Where no source image is at hand, these statistics are all that moves: the weights stay as the source left them, as in the paper.

Means and variances of single channels are brought together, nothing else: where classes are more frequent in one domain, that moves
them by a part of what another scanner does. So it stays eligible where methods that make whole distributions alike are not.

Reference: Li et al. 2017, arXiv:1603.04779, algorithm 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kerastl.adaptation.method import Method
from kerastl.options import StrictModel

if TYPE_CHECKING:
    from kerastl.adaptation.adaptation_step import AdaptationStep

METHOD = Method(reference="Li et al. 2017, arXiv:1603.04779", source_optional=True, moves_statistics=True)


class Options(StrictModel):
    """`adabn` has no options."""


def build(options: Options, **given: Any) -> AdaptationStep:  # noqa: ARG001 - part of the contract
    """Return the step; `given` as in `AdaptationStep`."""
    from kerastl.adaptation.steps import AdaBN

    return AdaBN(**given)


def build_without_source(options: Options, **given: Any) -> AdaptationStep:  # noqa: ARG001 - part of the contract
    """Return the step that reads the target alone; `given` as in `AdaptationStep`."""
    from kerastl.adaptation.steps import AdaBNAlone

    return AdaBNAlone(**given)

"""TENT: a trained classifier becomes surer on the target, by the scales and offsets of BatchNorm alone.

`mean(H)`, the entropy of predictions, over target batches that BatchNorm normalises by themselves; only BatchNorm's scale and offset learn. The
phase must say `batch_norm: trainable` and `trainable: {names: ...}`, naming BatchNorm layers alone (`batch_norm_alone` returns it); the head gets a
gradient of 0. The paper predicts each
test batch with that batch's statistics; before an evaluation they are re-estimated over all of the target's training images, so that an image's
answer does not depend on its neighbours.

Reference: Wang et al. 2021, arXiv:2006.10726, section 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kerastl.adaptation.method import Method
from kerastl.options import StrictModel

if TYPE_CHECKING:
    from kerastl.adaptation.adaptation_step import AdaptationStep

METHOD = Method(
    reference="Wang et al. 2021, arXiv:2006.10726",
    source_free=True,
    moves_statistics=True,
    assumes_equal_prevalence=True,
    only_batch_norm=True,
    freezes_head=True,
)


class Options(StrictModel):
    """`tent` has no options."""


def build(options: Options, **given: Any) -> AdaptationStep:  # noqa: ARG001 - part of the contract
    """Return the step; `given` as in `AdaptationStep`."""
    from kerastl.adaptation.steps import Tent

    return Tent(**given)

"""TENT: minimizes the entropy of target predictions by training only the scale and offset of BatchNorm.

`mean(H)`, the entropy of predictions, over target batches normalized by their own statistics. The phase must
set `batch_norm: trainable` and `trainable: {names: ...}` with the names of BatchNorm layers only
(`select_batch_norm` returns it). The head gets a gradient of 0. The paper predicts each test batch with
the statistics of that batch. Here they are re-estimated on all training images of the target before an
evaluation, so that a prediction does not depend on the other images of the batch.

Reference: Wang et al. 2021, arXiv:2006.10726, section 3.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from kerastl.adaptation.method import Method
from kerastl.adaptation.methods.adabn import TargetStatistics
from kerastl.options import StrictModel

if TYPE_CHECKING:
    import keras

    from kerastl.adaptation.adaptation_step import AdaptationStep

METHOD = Method(
    reference="Wang et al. 2021, arXiv:2006.10726",
    source_free=True,
    requires_statistics=True,
    assumes_equal_prevalence=True,
    only_batch_norm=True,
    freezes_head=True,
)


class Options(StrictModel):
    """`tent` has no options."""


class Tent(TargetStatistics):
    """BatchNorm statistics of the target, and scales and offsets that minimize the entropy of its predictions."""

    def frozen_paths(self, model: keras.Model) -> Collection[str]:
        """Return the paths of the head's weights."""
        from kerastl.adaptation.features import head_paths

        return head_paths(model)


def build(options: Options, **step_arguments: Any) -> AdaptationStep:  # noqa: ARG001 - part of the contract
    """Return the step."""
    return Tent(**step_arguments)

"""TENT: minimizes the entropy of target predictions by training only the scale and offset of BatchNorm.

`mean(H)`, the entropy of predictions, over target batches normalized by their own statistics. The phase must
set `batch_norm: trainable` and `trainable: {names: ...}` with the names of BatchNorm layers only
(`select_batch_norm` returns it). The head gets a gradient of 0. The paper predicts each test batch with
the statistics of that batch. Here they are re-estimated on all training images of the target before an
evaluation, so that a prediction does not depend on the other images of the batch.

Reference: Wang et al. 2021, arXiv:2006.10726, section 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kerastl import adaptation
from kerastl.adaptation.adaptation_step import AdaptationStep
from kerastl.adaptation.method import Method
from kerastl.options import StrictModel

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from kerastl.training.step import Batches, Losses

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


class Tent(AdaptationStep):
    """BatchNorm statistics of the target, and scales and offsets that minimize the entropy of its predictions."""

    stream_names = ("target",)
    metric_names = ()
    freezes_head = True

    def losses(self, model: keras.Model, batches: Batches, progress: tf.Tensor) -> Losses:  # noqa: ARG002
        """Return `loss`, the mean entropy of the target batch in nats."""
        import tensorflow as tf

        logits = adaptation.logits_of_frozen_head(model, batches["target"][0], training=True)
        return {"loss": tf.reduce_mean(adaptation.entropy(logits))}


def build(options: Options, **step_arguments: Any) -> AdaptationStep:  # noqa: ARG001 - part of the contract
    """Return the step."""
    return Tent(**step_arguments)

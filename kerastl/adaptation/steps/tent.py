"""The step of `tent`."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import keras
import tensorflow as tf

from kerastl.adaptation.features import head_paths, logits_of_frozen_head
from kerastl.adaptation.losses.entropy import entropy
from kerastl.adaptation.steps.adabn import AdaBNAlone
from kerastl.training.step import Batch


class Tent(AdaBNAlone):
    """The statistics of the target, and entropy of its predictions, by BatchNorm's scale and offset.

    Args:
        given: as in `AdaptationStep`; statistics follow the target whatever they say.
    """

    def losses(
        self,
        model: keras.Model,
        batches: Mapping[str, Batch],
        progress: tf.Tensor,  # noqa: ARG002 - part of the contract
    ) -> dict[str, tf.Tensor]:
        """Return `loss`, the mean entropy of the target batch in nats."""
        logits = logits_of_frozen_head(model, batches["target"][0], training=True)
        return {"loss": tf.reduce_mean(entropy(logits))}

    def kept(self, model: keras.Model) -> Collection[str]:
        """The head: features must fit it as it is."""
        return head_paths(model)

"""The step of `fine_tune`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from kerastl.adaptation.features import features_and_logits
from kerastl.adaptation.step import AdaptationStep
from kerastl.training.step import Batch


class FineTune(AdaptationStep):
    """Classification of the labelled pictures of the target, by themselves or beside the source.

    Args:
        both_domains: the source is learnt from, too; both count the same.
        given: as in `AdaptationStep`.
    """

    reads_target_labels = True

    def __init__(self, *, both_domains: bool = False, **given: Any) -> None:
        super().__init__(**given)
        self.reads = ("source", "target") if both_domains else ("target",)

    def losses(
        self, model: keras.Model, batches: Mapping[str, Batch], progress: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Return `loss` and `accuracy`, each the mean of those of the domains that are read."""
        told = [self._of(model, batches[name], progress) for name in self.reads]
        return {name: tf.add_n([one[name] for one in told]) / len(told) for name in told[0]}

    def _of(self, model: keras.Model, batch: Batch, progress: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return `loss` and `accuracy` of the labelled pictures of a batch; 0 where there are none."""
        images, labels, indices = batch
        _, logits = features_and_logits(model, images, training=True)
        # A mixed label is a row of shares, and pictures without a class are never mixed.
        known = labels >= 0 if labels.shape.rank == 1 else tf.reduce_sum(labels, -1) > 0
        logits, labels, indices = (tf.boolean_mask(one, known) for one in (logits, labels, indices))
        return self.classified((images, labels, indices), logits, progress)

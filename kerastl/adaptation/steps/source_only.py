"""The step of `source_only`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf

from kerastl.adaptation.features import features_and_logits
from kerastl.adaptation.step import AdaptationStep
from kerastl.training.step import Batch


class SourceOnly(AdaptationStep):
    """Classification of the stream `source`."""

    reads: Sequence[str] = ("source",)

    def losses(
        self, model: keras.Model, batches: Mapping[str, Batch], progress: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Return `loss` and `accuracy` of the source batch."""
        _, logits = features_and_logits(model, batches["source"][0], training=True)
        return self.classified(batches["source"], logits, progress)

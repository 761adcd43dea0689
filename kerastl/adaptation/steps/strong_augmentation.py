"""The step of `strong_augmentation`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from kerastl.adaptation.features import features_and_logits
from kerastl.adaptation.step import AdaptationStep
from kerastl.adaptation.steps.policy import StepPolicy
from kerastl.training.step import Batch


class StrongAugmentation(AdaptationStep):
    """Classification of source pictures that go through one more policy, inside the step.

    Args:
        policy: its name.
        given: as in `AdaptationStep`; where statistics follow the pictures, they follow the target's.
    """

    changes = "source"

    def __init__(self, policy: str, **given: Any) -> None:
        super().__init__(**given)
        # No loss sees the target: it is named for `on_epoch`, which is handed the streams that are read.
        self.reads = ("source", "target") if self.follow_statistics else ("source",)
        self._policy = StepPolicy(policy, seed=self.seed)

    def losses(
        self, model: keras.Model, batches: Mapping[str, Batch], progress: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Return `loss` and `accuracy` of the changed source batch."""
        _, labels, indices = batches["source"]
        changed = self.changed(batches, progress)
        _, logits = features_and_logits(model, changed, training=True)
        return self.classified((changed, labels, indices), logits, progress)

    def changed(self, batches: Mapping[str, Batch], progress: tf.Tensor) -> tf.Tensor:
        """Return the source's pictures as they are learnt: `[batch, h, w, 3]` float32 in [0, 255]."""
        return self._policy(batches["source"], progress)

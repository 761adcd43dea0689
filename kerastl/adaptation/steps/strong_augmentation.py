"""The step of `strong_augmentation`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from kerastl.adaptation.chance import step_seeds
from kerastl.adaptation.features import features_and_logits
from kerastl.adaptation.step import AdaptationStep
from kerastl.augment import Policy, build_policy, named_policy
from kerastl.training.step import Batch


class StrongAugmentation(AdaptationStep):
    """Classification of source pictures that go through one more policy, inside the step.

    Args:
        policy: its name.
        given: as in `AdaptationStep`; where statistics follow the pictures, they follow the target's.
    """

    def __init__(self, policy: str, **given: Any) -> None:
        super().__init__(**given)
        # No loss sees the target: it is named for `on_epoch`, which is handed the streams that are read.
        self.reads = ("source", "target") if self.follow_statistics else ("source",)
        self._operations = named_policy(policy)
        self._policy: Policy | None = None

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
        images, _, indices = batches["source"]
        return self._policy_for(images)(images, step_seeds(self.seed, progress, indices))

    def _policy_for(self, images: tf.Tensor) -> Policy:
        """Return the policy, built when the size of the pictures is known: at the first step."""
        if self._policy is None:
            with tf.init_scope():  # which stands inside a function that is being traced
                self._policy = build_policy(self._operations, image_size_px=images.shape[1])
        return self._policy

"""The step of `fixmatch`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from kerastl.adaptation.features import features_and_logits
from kerastl.adaptation.losses.pseudo_labels import pseudo_label_loss
from kerastl.adaptation.step import AdaptationStep
from kerastl.adaptation.steps.policy import StepPolicy
from kerastl.training.step import Batch


class FixMatch(AdaptationStep):
    """Classification of the source; strongly changed target pictures are answered as they are without the change.

    Source, target and changed target go through the network one after the other, so that BatchNorm in training mode normalises
    each by itself: what a picture is taken for is answered with the statistics of unchanged pictures.

    Args:
        weight: of the target beside classification.
        threshold: probability from which an answer is sure, 0 to 1.
        policy: name of what changes the target's pictures, after what the stream did to them.
        given: as in `AdaptationStep`.
    """

    shown = ("accuracy", "confident")
    changes = "target"

    def __init__(self, *, weight: float, threshold: float, policy: str, **given: Any) -> None:
        super().__init__(**given)
        self._weight, self._threshold = weight, threshold
        self._policy = StepPolicy(policy, seed=self.seed)

    def losses(
        self, model: keras.Model, batches: Mapping[str, Batch], progress: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Return `loss` and `accuracy` of the source, `pseudo_label_loss`, weighed, and the share that is `confident`."""
        source, weak, strong = (
            features_and_logits(model, images, training=True)[1]
            for images in (
                batches["source"][0],
                batches["target"][0],
                self.changed(batches, progress),
            )
        )
        loss, share = pseudo_label_loss(strong, teacher=weak, threshold=self._threshold)
        told = self.classified(batches["source"], source, progress)
        return told | {"pseudo_label_loss": self._weight * loss, "confident": share}

    def changed(self, batches: Mapping[str, Batch], progress: tf.Tensor) -> tf.Tensor:
        """Return the target's pictures as they are learnt: `[batch, h, w, 3]` float32 in [0, 255]."""
        return self._policy(batches["target"], progress)

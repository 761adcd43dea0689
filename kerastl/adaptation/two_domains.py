"""The step of methods that learn to classify the source while they watch the target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from kerastl.adaptation.features import features_and_logits
from kerastl.adaptation.step import AdaptationStep
from kerastl.training.step import Batch


@dataclass(frozen=True)
class Seen:
    """What a classifier made of one batch.

    Args:
        features: `[batch, features]` float32, what the head read.
        logits: `[batch, classes]` float32.
    """

    features: tf.Tensor
    logits: tf.Tensor


Watch = Callable[[Seen, Seen, tf.Tensor], dict[str, tf.Tensor]]


class TwoDomains(AdaptationStep):
    """Classification of the source, and losses that see the features and logits of both domains.

    The batches go through the network one after the other, so that BatchNorm in training mode normalises each domain by
    itself.

    Args:
        watch: `(source, target, progress) -> {name: scalar}`, the losses beside classification.
        variables: trained with the model's, e.g. a domain classifier's.
        shown: names that `watch` gives to look at, not to minimise.
        given: as in `AdaptationStep`.
    """

    def __init__(
        self,
        watch: Watch,
        *,
        variables: Sequence[keras.Variable] = (),
        shown: Sequence[str] = (),
        **given: Any,
    ) -> None:
        super().__init__(**given)
        self._watch, self.variables = watch, list(variables)
        self.shown = ("accuracy", *shown)

    def losses(
        self, model: keras.Model, batches: Mapping[str, Batch], progress: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Return the classification of the source, and what `watch` makes of both domains."""
        source, target = (
            Seen(*features_and_logits(model, batches[name][0], training=True))
            for name in ("source", "target")
        )
        told = self.classified(batches["source"], source.logits, progress)
        return told | self._watch(source, target, progress)

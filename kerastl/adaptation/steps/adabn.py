"""The steps of `adabn`, with source pictures at hand and without."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from kerastl.adaptation.features import features_and_logits
from kerastl.adaptation.losses.entropy import entropy
from kerastl.adaptation.step import AdaptationStep
from kerastl.adaptation.steps.source_only import SourceOnly
from kerastl.training.step import Batch


class AdaBN(SourceOnly):
    """Classification of the source, evaluated with the statistics of the target.

    Args:
        given: as in `AdaptationStep`; statistics follow the target whatever they say.
    """

    # No loss sees the target: it is named for `on_epoch`, which is handed the streams that are read.
    reads: Sequence[str] = ("source", "target")

    def __init__(self, **given: Any) -> None:
        super().__init__(**(given | {"follow_statistics": True}))


class AdaBNAlone(AdaptationStep):
    """The statistics of the target, and not a weight moved.

    Args:
        given: as in `AdaptationStep`; statistics follow the target whatever they say.
    """

    reads: Sequence[str] = ("target",)
    shown: Sequence[str] = ()

    def __init__(self, **given: Any) -> None:
        super().__init__(**(given | {"follow_statistics": True}))

    def losses(
        self,
        model: keras.Model,
        batches: Mapping[str, Batch],
        progress: tf.Tensor,  # noqa: ARG002 - part of the contract
    ) -> dict[str, tf.Tensor]:
        """Return `loss`, the mean entropy of the target batch in nats: to look at, as nothing learns from it."""
        _, logits = features_and_logits(model, batches["target"][0], training=True)
        return {"loss": tf.reduce_mean(entropy(logits))}

    def kept(self, model: keras.Model) -> Collection[str]:
        """Every weight."""
        return {one.path for one in model.weights}

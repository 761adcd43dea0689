"""What the steps of all adaptation methods share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl.data import ImageDataset
from kerastl.training import Classification
from kerastl.training.batch_norm import is_statistic, statistics_estimator
from kerastl.training.step import Batch


class AdaptationStep(ABC):
    """A `kerastl.training.Step` that learns from the streams it names in `reads`.

    Each of its `losses` is weighed already: the loop adds up all but `shown`.

    Args:
        num_classes: classes of the head.
        num_features: numbers that the head reads.
        seed: of what the method draws: first weights of its own layers, random maps.
        classification: how labelled pictures are learnt from; None: plain cross-entropy.
        follow_statistics: BatchNorm runs in training mode: each batch is normalised by itself, so each domain by its own
            statistics, and before an evaluation the running ones are re-estimated over the last stream in `reads`.
    """

    reads: Sequence[str] = ("source", "target")
    reads_target_labels = False
    shown: Sequence[str] = ("accuracy",)
    variables: Sequence[keras.Variable] = ()

    def __init__(
        self,
        *,
        num_classes: int,
        num_features: int,
        seed: int = 0,
        classification: Classification | None = None,
        follow_statistics: bool = False,
    ) -> None:
        self.num_classes, self.num_features, self.seed = num_classes, num_features, seed
        self.follow_statistics = follow_statistics
        self._classification = classification or Classification(num_classes)
        self._estimate: Callable[[ImageDataset], None] | None = None

    @abstractmethod
    def losses(
        self, model: keras.Model, batches: Mapping[str, Batch], progress: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Return named scalars, as `kerastl.training.Step` says."""

    def classified(
        self, batch: Batch, logits: tf.Tensor, progress: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Return `loss` and `accuracy` of labelled pictures from the logits that they were given."""
        return self._classification.losses(
            lambda images, training: logits,  # noqa: ARG005 - stands for the model, which has run already
            {"train": batch},
            progress,
        )

    def on_epoch(self, model: keras.Model, sources: Mapping[str, ImageDataset]) -> None:
        """Re-estimate BatchNorm statistics where they follow the pictures."""
        if self.follow_statistics:
            if self._estimate is None:
                self._estimate = statistics_estimator(model)
            self._estimate(sources[self.reads[-1]])

    def kept(self, model: keras.Model) -> Collection[str]:  # noqa: ARG002 - part of the contract
        """Nothing: what the phase lets learn may learn, see `kerastl.training.KeepsWeights`."""
        return ()

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """Nothing: the variables are all there is."""
        return {}

    def restore(self, state: Mapping[str, np.ndarray[Any, Any]]) -> None:  # noqa: B027
        """Nothing to take back."""

    def may_move(self, variable: keras.Variable) -> bool:
        """Statistics may, where they follow the pictures."""
        return self.follow_statistics and is_statistic(variable)

"""The step of `shot`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl.adaptation.features import features_and_logits, head_paths, logits_of_frozen_head
from kerastl.adaptation.losses.centroids import centroid_labels
from kerastl.adaptation.losses.entropy import diversity_loss, entropy
from kerastl.adaptation.step import AdaptationStep
from kerastl.data import ImageDataset
from kerastl.training.step import Batch, signature_of

UNKNOWN = -1


class Shot(AdaptationStep):
    """Information maximization and centroid pseudo-labels on the target, with the head frozen.

    Args:
        diversity_weight, pseudo_label_weight: of the second and the third term.
        given: as in `AdaptationStep`.
    """

    reads: Sequence[str] = ("target",)
    shown: Sequence[str] = ()

    def __init__(
        self, *, diversity_weight: float, pseudo_label_weight: float, **given: Any
    ) -> None:
        super().__init__(**given)
        self._diversity_weight = diversity_weight
        self._pseudo_label_weight = pseudo_label_weight
        # One label for each picture, by its index; none until `on_phase` has seen how many there are.
        self._labels = tf.Variable(np.zeros(0, np.int64), shape=[None], trainable=False)
        self._forward: Callable[[tf.Tensor], Any] | None = None

    def losses(
        self,
        model: keras.Model,
        batches: Mapping[str, Batch],
        progress: tf.Tensor,  # noqa: ARG002 - part of the contract
    ) -> dict[str, tf.Tensor]:
        """Return `loss`, the mean entropy, and the two terms beside it, weighed."""
        images, _, indices = batches["target"]
        logits = logits_of_frozen_head(model, images, training=True)
        labels = self._labels_of(indices)
        known = tf.cast(labels != UNKNOWN, tf.float32)
        against = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(labels, 0), logits)
        return {
            "loss": tf.reduce_mean(entropy(logits)),
            "diversity_loss": self._diversity_weight * diversity_loss(logits),
            "pseudo_label_loss": self._pseudo_label_weight * tf.reduce_mean(known * against),
        }

    def kept(self, model: keras.Model) -> Collection[str]:
        """The head: features must fit it as it is."""
        return head_paths(model)

    def _labels_of(self, indices: tf.Tensor) -> tf.Tensor:
        """Return the pseudo-label of each picture, `[batch]` int64; -1 where there is none."""
        padded = tf.concat([self._labels, tf.constant([UNKNOWN], tf.int64)], 0)
        last = tf.size(padded, tf.int64) - 1
        return tf.gather(padded, tf.minimum(tf.cast(indices, tf.int64), last))

    def on_phase(self, model: keras.Model, sources: Mapping[str, ImageDataset]) -> None:
        """Make the first pseudo-labels, of the weights that the phase starts from."""
        self._label(model, sources["target"])

    def on_epoch(self, model: keras.Model, sources: Mapping[str, ImageDataset]) -> None:
        """Make the pseudo-labels anew, after the statistics where these follow the target."""
        super().on_epoch(model, sources)
        self._label(model, sources["target"])

    def _label(self, model: keras.Model, target: ImageDataset) -> None:
        """Give each picture of the target a label, unchanged as it is seen in inference."""
        if self._forward is None:
            self._forward = tf.function(
                lambda images: features_and_logits(model, images, training=False),
                input_signature=[signature_of(model)],
                autograph=False,
            )
        features, logits, places = [], [], []
        try:
            for images, _, indices in target.plain_batches(0):
                read, answer = self._forward(images)
                features.append(np.asarray(read))
                logits.append(np.asarray(answer))
                places.append(np.asarray(indices))
        except tf.errors.OpError as error:
            raise target.explain(error) from error
        labels = np.full(target.num_examples, UNKNOWN, np.int64)
        labels[np.concatenate(places)] = centroid_labels(
            np.concatenate(features), np.concatenate(logits)
        )
        self._labels.assign(labels)

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the pseudo-labels."""
        return {"pseudo_labels": self._labels.numpy()}

    def restore(self, state: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Take back what `state` returned."""
        self._labels.assign(state["pseudo_labels"])

"""The step of `source_only`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl.adaptation.adaptation_step import (
    AdaptationStep,
    StepPolicy,
    features_and_logits,
    head_paths,
    logits_of_frozen_head,
)
from kerastl.adaptation.alignment_losses import centroid_labels, diversity_loss, entropy, pseudo_label_loss
from kerastl.data import ImageDataset
from kerastl.training.step import Batch, signature_of


class SourceOnly(AdaptationStep):
    """Classification of the stream `source`."""

    stream_names: Sequence[str] = ("source",)

    def losses(
        self, model: keras.Model, batches: Mapping[str, Batch], progress: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Return `loss` and `accuracy` of the source batch."""
        _, logits = features_and_logits(model, batches["source"][0], training=True)
        return self.classified(batches["source"], logits, progress)


class FineTune(AdaptationStep):
    """Classification of the labelled images of the target, by themselves or beside the source.

    Args:
        both_domains: the source is learnt from, too; both count the same.
        given: as in `AdaptationStep`.
    """

    uses_target_labels = True

    def __init__(self, *, both_domains: bool = False, **given: Any) -> None:
        super().__init__(**given)
        self.stream_names = ("source", "target") if both_domains else ("target",)

    def losses(
        self, model: keras.Model, batches: Mapping[str, Batch], progress: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Return `loss` and `accuracy`, each the mean of those of the domains that are read."""
        told = [self._of(model, batches[name], progress) for name in self.stream_names]
        return {name: tf.add_n([one[name] for one in told]) / len(told) for name in told[0]}

    def _of(self, model: keras.Model, batch: Batch, progress: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return `loss` and `accuracy` of the labelled images of a batch; 0 where there are none."""
        images, labels, indices = batch
        _, logits = features_and_logits(model, images, training=True)
        # A mixed label is a row of shares, and images without a class are never mixed.
        known = labels >= 0 if labels.shape.rank == 1 else tf.reduce_sum(labels, -1) > 0
        logits, labels, indices = (tf.boolean_mask(one, known) for one in (logits, labels, indices))
        return self.classified((images, labels, indices), logits, progress)


class AdaBN(SourceOnly):
    """Classification of the source, evaluated with the statistics of the target.

    Args:
        given: as in `AdaptationStep`; statistics follow the target whatever they say.
    """

    # No loss sees the target: it is named for `on_epoch`, which is handed the streams that are read.
    stream_names: Sequence[str] = ("source", "target")

    def __init__(self, **given: Any) -> None:
        super().__init__(**(given | {"follow_statistics": True}))


class AdaBNAlone(AdaptationStep):
    """The statistics of the target, and not a weight moved.

    Args:
        given: as in `AdaptationStep`; statistics follow the target whatever they say.
    """

    stream_names: Sequence[str] = ("target",)
    metric_names: Sequence[str] = ()

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

    def frozen_paths(self, model: keras.Model) -> Collection[str]:
        """Every weight."""
        return {one.path for one in model.weights}


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

    def frozen_paths(self, model: keras.Model) -> Collection[str]:
        """The head: features must fit it as it is."""
        return head_paths(model)


UNKNOWN = -1


class Shot(AdaptationStep):
    """Information maximization and centroid pseudo-labels on the target, with the head frozen.

    Args:
        diversity_weight, pseudo_label_weight: of the second and the third term.
        given: as in `AdaptationStep`.
    """

    stream_names: Sequence[str] = ("target",)
    metric_names: Sequence[str] = ()

    def __init__(self, *, diversity_weight: float, pseudo_label_weight: float, **given: Any) -> None:
        super().__init__(**given)
        self._diversity_weight = diversity_weight
        self._pseudo_label_weight = pseudo_label_weight
        # One label for each image, by its index; none until `on_phase_begin` has seen how many there are.
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

    def frozen_paths(self, model: keras.Model) -> Collection[str]:
        """The head: features must fit it as it is."""
        return head_paths(model)

    def _labels_of(self, indices: tf.Tensor) -> tf.Tensor:
        """Return the pseudo-label of each image, `[batch]` int64; -1 where there is none."""
        padded = tf.concat([self._labels, tf.constant([UNKNOWN], tf.int64)], 0)
        last = tf.size(padded, tf.int64) - 1
        return tf.gather(padded, tf.minimum(tf.cast(indices, tf.int64), last))

    def on_phase_begin(self, model: keras.Model, sources: Mapping[str, ImageDataset]) -> None:
        """Make the first pseudo-labels, of the weights that the phase starts from."""
        self._label(model, sources["target"])

    def on_epoch(self, model: keras.Model, sources: Mapping[str, ImageDataset]) -> None:
        """Make the pseudo-labels anew, after the statistics where these follow the target."""
        super().on_epoch(model, sources)
        self._label(model, sources["target"])

    def _label(self, model: keras.Model, target: ImageDataset) -> None:
        """Give each image of the target a label, unchanged as it is seen in inference."""
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
        labels[np.concatenate(places)] = centroid_labels(np.concatenate(features), np.concatenate(logits))
        self._labels.assign(labels)

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the pseudo-labels."""
        return {"pseudo_labels": self._labels.numpy()}

    def restore(self, state: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Take back what `state` returned."""
        self._labels.assign(state["pseudo_labels"])


class FixMatch(AdaptationStep):
    """Classification of the source; strongly changed target images are answered as they are without the change.

    Source, target and changed target go through the network one after the other, so that BatchNorm in training mode normalises
    each by itself: what an image is taken for is answered with the statistics of unchanged images.

    Args:
        weight: of the target beside classification.
        threshold: probability from which an answer is sure, 0 to 1.
        policy: name of what changes the target's images, after what the stream did to them.
        given: as in `AdaptationStep`.
    """

    metric_names = ("accuracy", "confident")
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
            for images in (batches["source"][0], batches["target"][0], self.changed(batches, progress))
        )
        loss, share = pseudo_label_loss(strong, teacher=weak, threshold=self._threshold)
        told = self.classified(batches["source"], source, progress)
        return told | {"pseudo_label_loss": self._weight * loss, "confident": share}

    def changed(self, batches: Mapping[str, Batch], progress: tf.Tensor) -> tf.Tensor:
        """Return the target's images as they are learnt: `[batch, h, w, 3]` float32 in [0, 255]."""
        return self._policy(batches["target"], progress)


class StrongAugmentation(AdaptationStep):
    """Classification of source images that go through one more policy, inside the step.

    Args:
        policy: its name.
        given: as in `AdaptationStep`; where statistics follow the images, they follow the target's.
    """

    changes = "source"

    def __init__(self, policy: str, **given: Any) -> None:
        super().__init__(**given)
        # No loss sees the target: it is named for `on_epoch`, which is handed the streams that are read.
        self.stream_names = ("source", "target") if self.update_statistics else ("source",)
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
        """Return the source's images as they are learnt: `[batch, h, w, 3]` float32 in [0, 255]."""
        return self._policy(batches["source"], progress)

"""SHOT: trains features on the target that fit the frozen head of a trained classifier.

`mean(H) + sum(m log m) + pseudo_label_weight * mean(-log p(y))`: H is the entropy of a prediction, m the mean
prediction, y the class of the nearest feature centroid, see `centroid_labels`. The weights of the head are
constants of the loss and get a gradient of 0. Labels are computed at the start of the phase and after each
epoch from the unaugmented images of the whole target. The bottleneck and weight normalization of the paper
are not added.

The second term assumes that the classes are equally frequent on the target.

Reference: Liang et al. 2020, arXiv:2002.08546, equations 3 to 7.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Le

from kerastl import adaptation
from kerastl.adaptation.adaptation_step import AdaptationStep
from kerastl.adaptation.method import Method
from kerastl.options import StrictModel

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

    from kerastl.data import ImageDataset
    from kerastl.training.step import Batches, Losses

METHOD = Method(
    reference="Liang et al. 2020, arXiv:2002.08546",
    source_free=True,
    assumes_equal_prevalence=True,
    freezes_head=True,
)
UNLABELED = -1


class Options(StrictModel):
    """Options of `shot`.

    Args:
        diversity_weight: Weight of the second term; 1 in the paper. Use 0 if the classes are not equally
            frequent.
        pseudo_label_weight: Weight of the third term; 0.3 in the paper.
    """

    diversity_weight: Annotated[float, Ge(0), Le(100)] = 1.0
    pseudo_label_weight: Annotated[float, Ge(0), Le(100)] = 0.3


class Shot(AdaptationStep):
    """Information maximization and centroid pseudo-labels on the target, with a frozen head.

    Args:
        options: Options of the method.
        step_arguments: As in `AdaptationStep`.
    """

    stream_names = ("target",)
    metric_names = ()
    freezes_head = True

    def __init__(self, options: Options, **step_arguments: Any) -> None:
        import numpy as np
        import tensorflow as tf

        super().__init__(**step_arguments)
        self._options = options
        # One label per example index; empty until `on_phase_begin` knows the number of images.
        self._labels = tf.Variable(np.zeros(0, np.int64), shape=[None], trainable=False)
        self._forward: Callable[[tf.Tensor], Any] | None = None

    def losses(self, model: keras.Model, batches: Batches, progress: tf.Tensor) -> Losses:  # noqa: ARG002
        """Return `loss`, the mean entropy, and the two other terms, weighted."""
        import tensorflow as tf

        images, _, indices = batches["target"]
        logits = adaptation.logits_of_frozen_head(model, images, training=True)
        labels = self._labels_of(indices)
        is_labeled = tf.cast(labels != UNLABELED, tf.float32)
        cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(labels, 0), logits)
        return {
            "loss": tf.reduce_mean(adaptation.entropy(logits)),
            "diversity_loss": self._options.diversity_weight * adaptation.diversity_loss(logits),
            "pseudo_label_loss": self._options.pseudo_label_weight
            * tf.reduce_mean(is_labeled * cross_entropy),
        }

    def _labels_of(self, indices: tf.Tensor) -> tf.Tensor:
        """Return the pseudo-label of each image, `[batch]` int64; -1 if there is none."""
        import tensorflow as tf

        padded = tf.concat([self._labels, tf.constant([UNLABELED], tf.int64)], 0)
        last = tf.size(padded, tf.int64) - 1
        return tf.gather(padded, tf.minimum(tf.cast(indices, tf.int64), last))

    def on_phase_begin(self, model: keras.Model, sources: Mapping[str, ImageDataset]) -> None:
        """Compute the first pseudo-labels with the initial weights of the phase."""
        self._update_labels(model, sources["target"])

    def on_epoch(self, model: keras.Model, sources: Mapping[str, ImageDataset]) -> None:
        """Update the statistics if `update_statistics` is set, then the pseudo-labels."""
        super().on_epoch(model, sources)
        self._update_labels(model, sources["target"])

    def _update_labels(self, model: keras.Model, target: ImageDataset) -> None:
        """Compute the pseudo-label of each target image, without augmentation and in inference mode."""
        import numpy as np

        from kerastl.data import report_unreadable
        from kerastl.training.step import trace

        if self._forward is None:
            self._forward = trace(
                lambda images: adaptation.features_and_logits(model, images, training=False), model
            )
        with report_unreadable(target):
            outputs = [(*self._forward(images), indices) for images, _, indices in target.plain_batches(0)]
        features, logits, rows = (np.concatenate(column) for column in zip(*outputs, strict=True))
        labels = np.full(target.num_examples, UNLABELED, np.int64)
        labels[rows] = adaptation.centroid_labels(features, logits)
        self._labels.assign(labels)

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the pseudo-labels."""
        return {"pseudo_labels": self._labels.numpy()}

    def restore(self, state: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Restore what `state` returned."""
        self._labels.assign(state["pseudo_labels"])


def build(options: Options, **step_arguments: Any) -> AdaptationStep:
    """Return the step."""
    return Shot(options, **step_arguments)

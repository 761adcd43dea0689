"""Base classes of adaptation steps. Does not import TensorFlow, so that `check` can read method files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from kerastl import adaptation, augment, training
from kerastl.image_size import as_size

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

    from kerastl.data import ImageDataset
    from kerastl.training.step import Batch, Batches, Losses


class AdaptationStep(ABC):
    """A `kerastl.training.Step` that trains on source images, target images or both.

    Subclasses return weighted terms from `losses`; the training loop minimizes the sum of all but
    `metric_names`.

    Args:
        num_classes: Number of classes of the head.
        num_features: Number of input features of the head.
        seed: Seed of everything random in the method, such as initial weights of its own layers.
        classification: The loss on labeled images; None for plain cross-entropy.
        update_statistics: Whether BatchNorm is in training mode. Each batch, and so each domain, is then
            normalized by its own statistics, and before an evaluation the running statistics are re-estimated
            on the last stream of `stream_names`.

    Attributes:
        freezes_head: Whether the step freezes the head; False unless a subclass sets it.
    """

    stream_names: Sequence[str] = ("source", "target")
    uses_target_labels = False
    metric_names: Sequence[str] = ("accuracy",)
    variables: Sequence[keras.Variable] = ()
    freezes_head = False

    def __init__(
        self,
        *,
        num_classes: int,
        num_features: int,
        seed: int = 0,
        classification: training.ClassificationStep | None = None,
        update_statistics: bool = False,
    ) -> None:
        self.num_classes, self.num_features, self.seed = num_classes, num_features, seed
        self.update_statistics = update_statistics
        self._classification = classification or training.ClassificationStep(num_classes)
        self._estimate: Callable[[ImageDataset], None] | None = None

    @abstractmethod
    def losses(self, model: keras.Model, batches: Batches, progress: tf.Tensor) -> Losses:
        """Return named scalars; see `kerastl.training.Step`."""

    def classify(self, model: keras.Model, batch: Batch, progress: tf.Tensor) -> Losses:
        """Return `loss` and `accuracy` of a batch of labeled images."""
        _, logits = adaptation.features_and_logits(model, batch[0], training=True)
        return self.classification_losses(batch, logits, progress)

    def classification_losses(self, batch: Batch, logits: tf.Tensor, progress: tf.Tensor) -> Losses:
        """Return `loss` and `accuracy` of labeled images, given their logits."""
        return self._classification.losses(
            lambda images, training: logits,  # noqa: ARG005 - replaces the model, which has already run
            {"train": batch},
            progress,
        )

    def on_epoch(self, model: keras.Model, sources: Mapping[str, ImageDataset]) -> None:
        """Re-estimate BatchNorm statistics if `update_statistics` is set."""
        if self.update_statistics:
            if self._estimate is None:
                self._estimate = training.build_statistics_estimator(model)
            self._estimate(sources[self.stream_names[-1]])

    def frozen_paths(self, model: keras.Model) -> Collection[str]:
        """Return the paths of weights that the step freezes: those of the head if `freezes_head` is set."""
        return {weight.path for weight in model.get_layer("head").weights} if self.freezes_head else ()

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the state in addition to the variables; none by default."""
        return {}

    def restore(self, state: Mapping[str, np.ndarray[Any, Any]]) -> None:  # noqa: B027
        """Restore what `state` returned."""

    def may_change(self, variable: keras.Variable) -> bool:
        """Return whether an untrained variable may change: statistics if `update_statistics` is set."""
        from kerastl.training.freeze import is_statistic

        return self.update_statistics and is_statistic(variable)


class SourceStep(AdaptationStep):
    """Classification of source images. A subclass may change the images first."""

    stream_names: Sequence[str] = ("source",)
    changed_stream = "source"

    def losses(self, model: keras.Model, batches: Batches, progress: tf.Tensor) -> Losses:
        """Return `loss` and `accuracy` of the changed source batch."""
        _, labels, indices = batches["source"]
        return self.classify(model, (self.change_images(batches, progress), labels, indices), progress)

    def change_images(self, batches: Batches, progress: tf.Tensor) -> tf.Tensor:  # noqa: ARG002 - overridden
        """Return the source images of the training step: `[batch, h, w, 3]` float32 in [0, 255]."""
        return batches["source"][0]


class DomainOutputs(NamedTuple):
    """Outputs of a classifier for one batch.

    Args:
        features: `[batch, features]` float32, the input of the head.
        logits: `[batch, classes]` float32.
    """

    features: tf.Tensor
    logits: tf.Tensor


AlignmentLosses = Callable[[DomainOutputs, DomainOutputs, "tf.Tensor"], "dict[str, tf.Tensor]"]


class TwoDomainStep(AdaptationStep):
    """Source classification, plus losses on the features and logits of both domains.

    The batches are run one after the other, so that BatchNorm in training mode normalizes each domain
    separately.

    Args:
        alignment_losses: `(source, target, progress) -> {name: scalar}`, weighted losses in addition to
            classification.
        variables: Variables that are trained in addition to those of the model, for example of a domain
            classifier.
        metric_names: Names in `alignment_losses` that are reported, but not minimized.
        step_arguments: As in `AdaptationStep`.
    """

    def __init__(
        self,
        alignment_losses: AlignmentLosses,
        *,
        variables: Sequence[keras.Variable] = (),
        metric_names: Sequence[str] = (),
        **step_arguments: Any,
    ) -> None:
        super().__init__(**step_arguments)
        self._alignment_losses, self.variables = alignment_losses, list(variables)
        self.metric_names = ("accuracy", *metric_names)

    def losses(self, model: keras.Model, batches: Batches, progress: tf.Tensor) -> Losses:
        """Return the source classification losses and the alignment losses."""
        source, target = (
            DomainOutputs(*adaptation.features_and_logits(model, batches[name][0], training=True))
            for name in ("source", "target")
        )
        classification = self.classification_losses(batches["source"], source.logits, progress)
        return classification | self._alignment_losses(source, target, progress)


SEED_OFFSET = 2**40
"""Larger than any epoch number, so that steps and the augmentation of the dataset never share a seed."""


def step_seeds(seed: int, progress: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
    """Return one seed per image of a step.

    Args:
        seed: Seed of the method.
        progress: Scalar float32, 0 to 1: position of the step in its phase.
        indices: `[batch]` int64, example indices.

    Returns:
        `[batch, 2]` int32, for stateless random operations.
    """
    import tensorflow as tf

    from kerastl.data.dataset import seeds_for

    position = tf.bitcast(tf.cast(progress, tf.float32), tf.int32)
    return seeds_for(seed, tf.cast(position, tf.int64) + SEED_OFFSET, indices)


class StepPolicy:
    """An augmentation policy that is built at the first step, when the image size is known.

    Args:
        name: Name of the policy.
        seed: Seed of its random numbers, which differ in each step.
    """

    def __init__(self, name: str, *, seed: int) -> None:
        self._operations, self._seed = augment.named_policy(name), seed
        self._policy: augment.Policy | None = None

    def __call__(self, batch: Batch, progress: tf.Tensor) -> tf.Tensor:
        """Return the augmented images of a batch: `[batch, h, w, 3]` float32 in [0, 255]."""
        import tensorflow as tf

        images, _, indices = batch
        if self._policy is None:
            with tf.init_scope():  # The first call may be inside a function that is being traced.
                self._policy = augment.build_policy(
                    self._operations, image_size_px=as_size(images.shape[1:3])
                )
        return self._policy(images, step_seeds(self._seed, progress, indices))

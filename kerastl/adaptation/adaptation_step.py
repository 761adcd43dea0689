"""What the steps of all adaptation methods share."""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl.augment import Policy, build_policy, named_policy
from kerastl.data import ImageDataset
from kerastl.data.dataset import seeds_for
from kerastl.training import ClassificationStep
from kerastl.training.batch_norm import is_statistic, build_statistics_estimator
from kerastl.training.step import Batch


class AdaptationStep(ABC):
    """A `kerastl.training.Step` that learns from the streams it names in `stream_names`.

    Each of its `losses` is weighed already: the loop adds up all but `metric_names`.

    Args:
        num_classes: classes of the head.
        num_features: numbers that the head reads.
        seed: of what the method draws: first weights of its own layers, random maps.
        classification: how labelled images are learnt from; None: plain cross-entropy.
        follow_statistics: BatchNorm runs in training mode: each batch is normalised by itself, so each domain by its own
            statistics, and before an evaluation the running ones are re-estimated over the last stream in `stream_names`.
    """

    stream_names: Sequence[str] = ("source", "target")
    uses_target_labels = False
    metric_names: Sequence[str] = ("accuracy",)
    variables: Sequence[keras.Variable] = ()

    def __init__(
        self,
        *,
        num_classes: int,
        num_features: int,
        seed: int = 0,
        classification: ClassificationStep | None = None,
        update_statistics: bool = False,
    ) -> None:
        self.num_classes, self.num_features, self.seed = num_classes, num_features, seed
        self.update_statistics = update_statistics
        self._classification = classification or ClassificationStep(num_classes)
        self._estimate: Callable[[ImageDataset], None] | None = None

    @abstractmethod
    def losses(
        self, model: keras.Model, batches: Mapping[str, Batch], progress: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Return named scalars, as `kerastl.training.Step` says."""

    def classified(self, batch: Batch, logits: tf.Tensor, progress: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return `loss` and `accuracy` of labelled images from the logits that they were given."""
        return self._classification.losses(
            lambda images, training: logits,  # noqa: ARG005 - stands for the model, which has run already
            {"train": batch},
            progress,
        )

    def on_epoch(self, model: keras.Model, sources: Mapping[str, ImageDataset]) -> None:
        """Re-estimate BatchNorm statistics where they follow the images."""
        if self.update_statistics:
            if self._estimate is None:
                self._estimate = build_statistics_estimator(model)
            self._estimate(sources[self.stream_names[-1]])

    def frozen_paths(self, model: keras.Model) -> Collection[str]:  # noqa: ARG002 - part of the contract
        """Nothing: what the phase lets learn may learn, see `kerastl.training.WeightFreezingStep`."""
        return ()

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """Nothing: the variables are all there is."""
        return {}

    def restore(self, state: Mapping[str, np.ndarray[Any, Any]]) -> None:  # noqa: B027
        """Nothing to take back."""

    def may_change(self, variable: keras.Variable) -> bool:
        """Statistics may, where they follow the images."""
        return self.update_statistics and is_statistic(variable)


_known: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def features_and_logits(model: keras.Model, images: Any, *, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
    """Run a classifier once and return what its head reads beside what it answers.

    Args:
        model: a classifier of `build_model`, or what the loop trains in its place: a folded front with the layers
            behind it as a model within, or these alone, which read cached activations. Its last operation is its head,
            or a model that ends so.
        images: what `model` takes: `[batch, h, w, 3]` float32 in [0, 255], or activations.
        training: dropout is on, and BatchNorm that is not frozen normalises by the batch.

    Returns:
        Features `[batch, features]` float32, pooled and behind the head's dropout, so that `logits` are the head of
        these features exactly; and logits `[batch, classes]` float32.
    """
    _, both = _parts(model)
    features, logits = both(images, training=training)
    return tf.cast(features, tf.float32), tf.cast(logits, tf.float32)


def logits_of_frozen_head(model: keras.Model, images: Any, *, training: bool) -> tf.Tensor:
    """Return logits as `features_and_logits` does, the weights of the head being constants.

    They get a gradient of 0, not none, so that an optimizer that holds them finds one for each of its variables.

    Args:
        model, images, training: as in `features_and_logits`.
    """
    head, _ = _parts(model)
    features, _ = features_and_logits(model, images, training=training)
    weights = [tf.cast(tf.convert_to_tensor(one), tf.float32) for one in (head.kernel, head.bias)]
    kernel, bias = (tf.stop_gradient(one) for one in weights)
    nothing = tf.add_n([0.0 * tf.reduce_sum(one) for one in weights])
    return tf.matmul(features, kernel) + bias + nothing


def head_paths(model: keras.Model) -> set[str]:
    """Return the paths of the weights of a flat classifier's head."""
    return {one.path for one in model.get_layer("head").weights}


def _parts(model: keras.Model) -> tuple[Any, keras.Model]:
    """Return the head of a classifier, and the model that gives what it reads beside what it answers."""
    if model not in _known:
        with tf.init_scope():  # the first call may stand inside a function that is being traced
            _known[model] = _head_of(model), _with_features(model)
    return _known[model]


def _head_of(model: keras.Model) -> Any:
    (output,) = model.outputs
    last = output._keras_history.operation
    return _head_of(last) if isinstance(last, keras.Model) else last


def _with_features(model: keras.Model) -> keras.Model:
    """Return a model of the same layers with two outputs: what the last operation reads, and the answer."""
    (output,) = model.outputs
    history = output._keras_history
    node = history.operation._inbound_nodes[history.node_index]
    if isinstance(history.operation, keras.Model):
        outputs = _with_features(history.operation)(*node.arguments.args)
    else:
        outputs = [*node.input_tensors, output]
    inputs = model.inputs if len(model.inputs) > 1 else model.inputs[0]
    return keras.Model(inputs, outputs, name=f"{model.name}_with_features")


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
        metric_names: Sequence[str] = (),
        **given: Any,
    ) -> None:
        super().__init__(**given)
        self._watch, self.variables = watch, list(variables)
        self.metric_names = ("accuracy", *metric_names)

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


_APART = 2**40
"""Above every number of an epoch, so that no seed is one that the images' own augmentation has."""


def step_seeds(seed: int, progress: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
    """Return one seed for each image of a step.

    Args:
        seed: of the method.
        progress: scalar float32, 0 to 1: where in its phase the step stands.
        indices: `[batch]` int64, numbers of the images.

    Returns:
        `[batch, 2]` int32, for stateless draws.
    """
    place = tf.bitcast(tf.cast(progress, tf.float32), tf.int32)
    return seeds_for(seed, tf.cast(place, tf.int64) + _APART, indices)


def build_domain_classifier(num_inputs: int, *, hidden: int, seed: int) -> keras.Model:
    """Return a network of one hidden layer: `[batch, num_inputs]` to a logit `[batch, 1]`, positive for the source.

    Args:
        num_inputs: numbers that it reads.
        hidden: units of the hidden layer.
        seed: of its first weights.
    """
    return keras.Sequential(
        [
            keras.Input((num_inputs,)),
            _dense(hidden, "domain_hidden", seed, activation="relu"),
            _dense(1, "domain", seed + 1),
        ],
        name="domain_classifier",
    )


def build_second_head(num_features: int, num_classes: int, *, seed: int) -> keras.Model:
    """Return one layer, `[batch, num_features]` to logits `[batch, num_classes]`."""
    return keras.Sequential(
        [keras.Input((num_features,)), _dense(num_classes, "second_head_logits", seed)], name="second_head"
    )


def _dense(units: int, name: str, seed: int, activation: str | None = None) -> keras.layers.Dense:
    # float32 under any policy, as the classifier's own head.
    return keras.layers.Dense(
        units, activation=activation, dtype="float32", name=name,
        kernel_initializer=keras.initializers.GlorotUniform(seed=seed),
    )  # fmt: skip


class StepPolicy:
    """A policy that is built when the size of the images is known, at the first step.

    Args:
        name: of the policy.
        seed: of what it draws, anew at each step.
    """

    def __init__(self, name: str, *, seed: int) -> None:
        self._operations, self._seed = named_policy(name), seed
        self._policy: Policy | None = None

    def __call__(self, batch: Batch, progress: tf.Tensor) -> tf.Tensor:
        """Return the images of a batch, changed: `[batch, h, w, 3]` float32 in [0, 255]."""
        images, _, indices = batch
        if self._policy is None:
            with tf.init_scope():  # which stands inside a function that is being traced
                self._policy = build_policy(self._operations, image_size_px=images.shape[1])
        return self._policy(images, step_seeds(self._seed, progress, indices))

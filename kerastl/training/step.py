"""The contract between the training loop and a learning method: classification, or an adaptation method."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Protocol, runtime_checkable

import keras
import numpy as np
import tensorflow as tf

from kerastl.data import ImageDataset
from kerastl.errors import Problem, raise_problems, setting
from kerastl.image_size import plain_size
from kerastl.recipe.phase import Phase
from kerastl.training.freeze import head_layers, weights_by_layer

Batch = tuple[tf.Tensor, tf.Tensor, tf.Tensor]
Batches = Mapping[str, Batch]
Losses = dict[str, tf.Tensor]


class Step(Protocol):
    """A learning method. The training loop calls it and does not depend on its details.

    `batches` maps the name of a stream to `(images [b, h, w, 3] float32 in [0, 255], labels [b] int32, or
    [b, classes] float32 if the dataset mixes its images, indices [b] int64)`. The batches of two streams can differ in
    size. If the phase has a cache, `model` is the part after the frozen trunk, and images are its inputs.
    `progress` is a float32 scalar, 0 at the first step of the phase and 1 at its end.
    """

    variables: Sequence[keras.Variable]
    """Trainable variables in addition to those of the model, e.g. of a domain classifier. Checkpoints include them."""
    metric_names: Sequence[str]
    """Names in `losses` that are reported but not minimized, e.g. `accuracy`."""
    stream_names: Sequence[str]
    """Streams in `batches`: `train` or `source`, which both name the images of the phase's domain, and `target`. An
    epoch is one pass over the first stream. The others repeat, in a new order each time."""
    uses_target_labels: bool
    """Whether the step gets the labels of `target`. If not, each label is -1."""

    def losses(self, model: keras.Model, batches: Batches, progress: tf.Tensor) -> Losses:
        """Return named scalars, each a mean over the batch. The sum of all but `metric_names` is minimized."""

    def on_epoch(self, model: keras.Model, sources: Mapping[str, ImageDataset]) -> None:
        """Called before each validation with the dataset of each stream, e.g. to estimate statistics."""

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the state that a resumed training needs in addition to the variables."""

    def restore(self, state: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Restore what `state` returned."""

    def may_change(self, variable: keras.Variable) -> bool:
        """Return whether a variable that is not trained can change (statistics)."""


@runtime_checkable
class WeightFreezingStep(Protocol):
    """A step that freezes weights in addition to those that its phase freezes, e.g. the head.

    The optimizer does not get these weights, and the freeze report treats them as frozen.
    """

    def frozen_paths(self, model: keras.Model) -> Collection[str]:
        """Return the paths of these weights."""


def trained_variables(step: Step, model: keras.Model) -> list[keras.Variable]:
    """Return the variables for the optimizer: the trainable ones of the model that the step does not freeze, and the step's own."""
    frozen = step.frozen_paths(model) if isinstance(step, WeightFreezingStep) else ()
    trainable = (variable for variable in model.trainable_variables if variable.path not in frozen)
    return [*trainable, *step.variables]


@runtime_checkable
class PhaseStartStep(Protocol):
    """A step that uses the weights at the start of its phase, e.g. to copy them to a teacher.

    It cannot do so when it is built, because the steps of all phases are built before the first phase.
    """

    def on_phase_begin(self, model: keras.Model, sources: Mapping[str, ImageDataset]) -> None:
        """Called before the first step of the phase, but not if it resumes from a checkpoint within the phase."""


StepFactory = Callable[[Phase, ImageDataset], Step]
OWN_STREAMS = ("train", "source")
"""Both are names of the images of the phase's domain."""
TARGET = "target"


@dataclass(frozen=True)
class PhaseData:
    """A phase with its step and its datasets.

    Args:
        phase: The phase.
        step: Its step.
        streams: The dataset of each stream, in the order of `step.stream_names`.
        val: The validation images of its domain, or None.
    """

    phase: Phase
    step: Step
    streams: Mapping[str, ImageDataset]
    val: ImageDataset | None = None

    @property
    def first(self) -> ImageDataset:
        """The dataset of the first stream. An epoch is one pass over it."""
        return next(iter(self.streams.values()))

    def changes_frozen_layers(self, model: keras.Model) -> bool:
        """Return whether the step changes variables before the head that its phase freezes (statistics)."""
        head = head_layers(model)
        return self.phase.batch_norm == "frozen" and any(
            self.step.may_change(weight)
            for name, weights in weights_by_layer(model).items()
            if name not in head
            for weight in weights
        )


def build_phase_data(
    model: keras.Model,
    phases: Sequence[Phase],
    *,
    trains: Mapping[str, ImageDataset],
    vals: Mapping[str, ImageDataset],
    target: ImageDataset | None,
    step_for: StepFactory,
) -> list[PhaseData]:
    """Return the step and the datasets of each phase. Checks that every replica can get a batch of each stream.

    The target stream has its own order, see `ImageDataset.with_own_order`, and labels of -1 unless the step uses them. A
    phase whose step reads only the target needs no images of its own domain.

    Args:
        model: A flat classifier.
        phases: All phases.
        trains, vals: Training and validation datasets by domain.
        target: The training images of the target, or None.
        step_for: Builds the step of a phase.

    Raises:
        Problems: All problems together: a domain without images; a stream that is missing, empty or does not fit the
            images of the phase's domain; a variable with the path of a model variable; a cache of layers that the step
            changes. Nothing was trained.
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    target_stream = cache(lambda labeled: None if target is None else target.with_own_order(labeled=labeled))
    phase_data, problems = [], []
    for phase in phases:
        where = f"phase {phase.name}"
        own = trains.get(phase.domain)
        # Without images of its own domain, a step is built for the target images, without their labels.
        train = target_stream(False) if own is None else own
        step = step_for(phase, train) if train is not None else None
        if train is None or step is None or (own is None and set(step.stream_names) & set(OWN_STREAMS)):
            problems.append(Problem(where, no_images(phase)))
            continue
        names = {variable.path for variable in step.variables} & {weight.path for weight in model.weights}
        messages = [
            f"the step has a variable {name}, and so does the model. Set a different name= for the layer of the step."
            for name in sorted(names)
        ]
        messages += _check_streams(step, train, target, replicas)
        streams = {
            name: train if name in OWN_STREAMS else target_stream(step.uses_target_labels)
            for name in step.stream_names
        }
        datasets = {name: dataset for name, dataset in streams.items() if dataset is not None}
        data = PhaseData(phase, step, datasets, vals.get(phase.domain))
        if data.changes_frozen_layers(model):
            messages += _check_constant_trunk(phase)
            data = replace(data, phase=phase.model_copy(update={"cache": "none"}))
        problems += [Problem(where, message) for message in messages]
        phase_data.append(data)
    raise_problems("The training", problems, "Nothing was trained.")
    return phase_data


def no_images(phase: Phase) -> str:
    """Return the error message for a phase whose domain has no training images."""
    return f"there are no labeled images of domain {phase.domain}."


def _check_streams(
    step: Step, train: ImageDataset, target: ImageDataset | None, replicas: int
) -> Iterator[str]:
    """Yield an error message for each stream that the step cannot read."""
    if not step.stream_names or set(step.stream_names) - {*OWN_STREAMS, TARGET}:
        names = ", ".join(step.stream_names) or "no stream"
        yield f"the step reads {names}. Known streams: {', '.join((*OWN_STREAMS, TARGET))}."
    if TARGET not in step.stream_names:
        return
    if target is None:
        yield "the step reads target images, but there are none. Use fit(..., target=ImageDataset(...))."
        return
    smallest_batch = min(target.batch_size, target.num_examples)
    if target.steps_per_epoch < 1 or smallest_batch < replicas:
        devices = f" for {replicas} devices" if replicas > 1 else ""
        yield (
            f"the step reads target images, but {target.num_examples} images are fewer than one batch of "
            f"{target.batch_size}{devices}. Add images, or reduce the batch size."
        )
    for name in ("image_size_px", "resize", "placement"):
        own, other = (getattr(images, name) for images in (train, target))
        if own != other and None not in (own, other):
            own, other = (plain_size(value) if isinstance(value, tuple) else value for value in (own, other))
            yield f"target: {name} is {other}, but {own} for the phase's own images. Use {name}={own}."
    if target.mixes and not step.uses_target_labels:
        yield "target: images and labels are mixed, but the step does not use target labels. Remove mix=."
    if step.uses_target_labels and tuple(target.class_names) != tuple(train.class_names):
        yield (
            f"target: the classes are {', '.join(target.class_names)}, but {', '.join(train.class_names)} for the "
            "phase's own images. Use the same class_names=."
        )


def _check_constant_trunk(phase: Phase) -> Iterator[str]:
    """Yield an error message for settings that need a constant trunk, although the step changes it."""
    cache, precision = phase.cache, phase.trunk_precision
    settings = [setting("cache", cache)] if cache not in ("auto", "none") else []
    settings += [setting("trunk_precision", precision)] if precision != "float32" else []
    if settings:
        yield (
            f"{' and '.join(settings)}: not possible, because the step changes statistics of frozen layers. "
            f"Use {setting('cache', 'none')} and {setting('trunk_precision', 'float32')}."
        )


def signature_of(model: keras.Model) -> Any:
    """Return the input signature of a model with a free batch size: one `tf.TensorSpec`, or a list."""
    specs = [tf.TensorSpec([None, *tensor.shape[1:]], tf.float32) for tensor in model.inputs]
    return specs[0] if len(specs) == 1 else specs


def trace(function: Callable[[Any], Any], model: keras.Model) -> Callable[[Any], Any]:
    """Return a function of the inputs of a model as one graph, which the first call traces.

    It calls the concrete function. TensorFlow would warn about retracing if many `tf.function` objects were created, e.g.
    one per candidate.
    """

    @cache
    def graph() -> Any:
        return tf.function(function, autograph=False).get_concrete_function(signature_of(model))

    return lambda inputs: graph()(inputs)


def trace_inference(model: keras.Model) -> Callable[[Any], Any]:
    """Return a model in inference mode as a traced function."""
    return trace(lambda inputs: model(inputs, training=False), model)

"""What the loop asks of a way of learning. Classification is one; every adaptation method is another."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Protocol, runtime_checkable

import keras
import numpy as np
import tensorflow as tf

from kerastl.data import ImageDataset
from kerastl.errors import Problem, Problems
from kerastl.recipe.phase import Phase
from kerastl.training.freeze import HEAD_LAYERS

Batch = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


class Step(Protocol):
    """One way of learning, which the loop drives and never looks into.

    `batches` maps a stream's name to `(images [b, h, w, 3] float32 in [0, 255], labels [b] int32, or
    [b, classes] float32 where the source mixes its images, indices [b] int64)`; batches of two streams may
    differ in size. Where the phase has a cache, `model` is the part behind it, and images are what that reads.
    `progress` is a float32 scalar from 0 at the first step of the phase to 1 at its end.
    """

    variables: Sequence[keras.Variable]
    """Trainable variables beside the model's, e.g. a domain classifier's; a checkpoint holds them."""
    metric_names: Sequence[str]
    """Names in `losses` that are reported and not minimised, e.g. `accuracy`."""
    stream_names: Sequence[str]
    """Streams that `batches` holds: `train` or `source`, which both name the phase's own images, and `target`. An
    epoch goes once through the first; the others go round, in another order each time."""
    uses_target_labels: bool
    """Whether the labels of `target` are handed over; where not, each is -1."""

    def losses(
        self, model: keras.Model, batches: Mapping[str, Batch], progress: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Return named scalars, each a mean over the batch; all but `metric_names` are added up and minimised."""

    def on_epoch(self, model: keras.Model, sources: Mapping[str, ImageDataset]) -> None:
        """Called before each evaluation with the images of each stream, e.g. to re-estimate statistics."""

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return what a resumed run needs beyond the variables."""

    def restore(self, state: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Take back what `state` returned."""

    def may_change(self, variable: keras.Variable) -> bool:
        """Tell whether a variable that is not trained may change all the same (statistics)."""


@runtime_checkable
class WeightFreezingStep(Protocol):
    """A step that leaves weights alone which its phase lets move, as the head of a model that must fit it.

    The optimizer is not given them, and the proof of the phase holds them for frozen.
    """

    def frozen_paths(self, model: keras.Model) -> Collection[str]:
        """Return the paths of these weights."""


def trained_variables(step: Step, model: keras.Model) -> list[keras.Variable]:
    """Return what an optimizer is given: what the model's flags let learn, but what the step keeps; the step's own behind."""
    kept = step.frozen_paths(model) if isinstance(step, WeightFreezingStep) else ()
    return [*(one for one in model.trainable_variables if one.path not in kept), *step.variables]


@runtime_checkable
class PhaseStartStep(Protocol):
    """A step that looks at the weights its phase starts from, e.g. to copy a teacher from them.

    Steps of all phases are built before the first begins, so none can do so when it is built.
    """

    def on_phase_begin(self, model: keras.Model, sources: Mapping[str, ImageDataset]) -> None:
        """Called before the first step of the phase, not where it goes on from a checkpoint inside it."""


StepFactory = Callable[[Phase, ImageDataset], Step]
OWN = ("train", "source")
"""Both name the images of the phase's own domain."""
TARGET = "target"


@dataclass(frozen=True)
class PhaseData:
    """A phase, what it learns, and what it learns from.

    Args:
        phase: how it learns.
        step: built for it.
        streams: images of each stream, in the order of `step.stream_names`.
        val: validation images of its domain; None: there are none.
    """

    phase: Phase
    step: Step
    streams: Mapping[str, ImageDataset]
    val: ImageDataset | None = None

    @property
    def first(self) -> ImageDataset:
        """The images that an epoch goes through once."""
        return next(iter(self.streams.values()))

    def changes_frozen_layers(self, model: keras.Model) -> bool:
        """Tell whether the step changes something before the head that its phase freezes, as statistics."""
        return self.phase.batch_norm == "frozen" and any(
            self.step.may_change(weight)
            for layer in model.layers
            if layer.name not in HEAD_LAYERS
            for weight in layer.weights
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
    """Return the lesson of each phase; see that the streams which its step reads can be read, and dealt to all replicas.

    The stream of the target has an order of its own, see `ImageDataset.beside`, and labels of -1 unless the step asks
    for them. A phase whose step reads the target alone needs no images of its own domain.

    Args:
        model: a flat classifier.
        phases: all that will be run.
        trains, vals: images by domain.
        target: the target's training images; None: there are none.
        step_for: builds the step of a phase.

    Raises:
        Problems: a domain without images; a stream that is missing, empty or unlike the phase's own images; a
            variable named like one of the model's; a cache of what the step moves. All together; nothing was trained.
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    beside = cache(lambda labelled: None if target is None else target.with_own_order(labelled=labelled))
    all_phase_data, problems = [], []
    for phase in phases:
        where = f"phase {phase.name}"
        own = trains.get(phase.domain)
        # What has no images of its own is built for those that it reads, without their labels.
        train = beside(False) if own is None else own
        step = step_for(phase, train) if train is not None else None
        if train is None or step is None or (own is None and set(step.stream_names) & set(OWN)):
            problems.append(Problem(where, no_images(phase)))
            continue
        wrong = [*_wrong_variables(model, step), *_wrong_streams(step, train, target, replicas)]
        found = {name: train if name in OWN else beside(step.uses_target_labels) for name in step.stream_names}
        images = {name: one for name, one in found.items() if one is not None}
        phase_data = PhaseData(phase, step, images, vals.get(phase.domain))
        if phase_data.changes_frozen_layers(model):
            wrong += _wrong_front(phase)
            phase_data = replace(phase_data, phase=phase.model_copy(update={"cache": "none"}))
        problems += [Problem(where, what) for what in wrong]
        all_phase_data.append(phase_data)
    if problems:
        raise Problems("The training", problems, "Nothing was trained.")
    return all_phase_data


def no_images(phase: Phase) -> str:
    """Return what is wrong with a phase whose domain has no training images."""
    return f"there are no labelled images of its domain, {phase.domain}."


def _wrong_variables(model: keras.Model, step: Step) -> Iterator[str]:
    """Yield what is wrong with the variables of a step: paths tell who may move."""
    taken = {one.path for one in model.weights}
    for path in sorted({one.path for one in step.variables} & taken):
        yield f"its step has a variable {path}, as the model has. Give its layer another name=."


def _wrong_streams(
    step: Step, train: ImageDataset, target: ImageDataset | None, replicas: int
) -> Iterator[str]:
    """Yield what hinders a step from reading its streams."""
    if not step.stream_names or set(step.stream_names) - {*OWN, TARGET}:
        told = ", ".join(step.stream_names) or "nothing"
        yield f"its step reads {told}; the streams are {', '.join((*OWN, TARGET))}."
    if TARGET not in step.stream_names:
        return
    if target is None:
        yield "its step reads the target's images, and there are none: fit(..., target=ImageDataset(...))."
        return
    fewest = min(target.batch_size, target.num_examples)
    if target.steps_per_epoch < 1 or fewest < replicas:
        dealt = f" for {replicas} devices" if replicas > 1 else ""
        yield (
            f"its step reads the target's images. There are {target.num_examples}, not one batch of "
            f"{target.batch_size}{dealt}. Take more images, or another batch size."
        )
    for what, own, its in (
        ("image_size_px", train.image_size_px, target.image_size_px),
        ("placement", train.placement, target.placement),
    ):
        if own != its:
            yield f"target: {what} is {its}, and that of its own images {own}. Write {what}={own}."
    if target.mixes and not step.uses_target_labels:
        yield "target: its images are mixed, labels and all, and its step reads no labels. Take mix= out."
    if step.uses_target_labels and tuple(target.class_names) != tuple(train.class_names):
        yield (
            f"target: its classes are {', '.join(target.class_names)}, and those of its own images "
            f"{', '.join(train.class_names)}. Write the same class_names=."
        )


def _wrong_front(phase: Phase) -> Iterator[str]:
    """Yield what asks for a front that stays as it is, of a phase whose step moves it."""
    fixed = [
        f"{name}: {value}"
        for name, value, free in (
            ("cache", phase.cache, ("auto", "none")),
            ("trunk_precision", phase.trunk_precision, ("float32",)),
        )
        if value not in free
    ]
    if fixed:
        yield (
            f"{' and '.join(fixed)}: its step moves statistics of frozen layers, so nothing that these make can "
            "be kept. Write cache: none and trunk_precision: float32."
        )


def signature_of(model: keras.Model) -> Any:
    """Return the shapes of a model's inputs with a free batch: one, or a list of them."""
    specs = [tf.TensorSpec([None, *one.shape[1:]], tf.float32) for one in model.inputs]
    return specs[0] if len(specs) == 1 else specs


def trace(call: Callable[[Any], Any], model: keras.Model) -> Callable[[Any], Any]:
    """Return a function of what a model takes as one graph, made when it is first called.

    The graph alone is called: TensorFlow takes functions that are made anew again and again, as one for each candidate, for
    one that is traced at each call, and warns.
    """

    @cache
    def graph() -> Callable[[Any], Any]:
        made: Callable[[Any], Any] = tf.function(call, autograph=False).get_concrete_function(
            signature_of(model)
        )
        return made

    return lambda inputs: graph()(inputs)


def trace_inference(model: keras.Model) -> Callable[[Any], Any]:
    """Return a traced function from what a model takes to what it gives in inference."""
    return trace(lambda inputs: model(inputs, training=False), model)

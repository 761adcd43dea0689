"""How long a phase takes on this machine, by some steps on trial."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl.backbones import fold
from kerastl.data import ImageDataset
from kerastl.training.activations import BATCH, Activations, shapes_of
from kerastl.training.backward import with_cheap_backward
from kerastl.training.cached_source import CachedSource
from kerastl.training.clock import Cost
from kerastl.training.feed import batches_of
from kerastl.training.freezing import resolve_batch_norm
from kerastl.training.learner import Learner, Parts, cached_front, on_pictures, part
from kerastl.training.loop import classification_step
from kerastl.training.phase import Phase
from kerastl.training.streams import Lesson, StepFor, lessons_of
from kerastl.training.tracing import inference
from kerastl.training.trial import on_trial, trial_update

STEPS = 4
"""Steps that are timed, after as many that are not: tracing, and pictures that wait ready, are no rate."""


def cost_of(
    model: keras.Model,
    train: ImageDataset | None,
    val: ImageDataset | None,
    *,
    phase: Phase,
    target: ImageDataset | None = None,
    step_for: StepFor = classification_step,
) -> Cost:
    """Time some steps of a phase; the model is given back as it was, and no cache is filled.

    Args:
        model: a flat classifier.
        train: labelled pictures; None: the step reads the target alone.
        val: likewise; None: there is no validation.
        phase: its `cache` is decided.
        target, step_for: as in `fit`.

    Raises:
        Problems: the step reads a stream that is missing or unlike the others.
    """
    started, phase = time.perf_counter(), resolve_batch_norm(model, phase)
    vals = {} if val is None else {str(phase.domain): val}
    trains = {} if train is None else {str(phase.domain): train}
    (lesson,) = lessons_of(
        model, [phase], trains=trains, vals=vals, target=target, step_for=step_for
    )
    with on_trial(model, phase):
        if phase.cache == "none":
            once, epoch = 0.0, _epoch(model, on_pictures(model, lesson), lesson)
        else:
            parts = part(model, cached_front(model, phase))
            learner = _on_zeros(parts, lesson)
            epoch = _epoch(model, learner, lesson)
            seen = sum(one.num_examples * one.views for one in lesson.streams.values())
            seen += val.num_examples if val else 0
            trunk = fold(parts.trunk, phase.trunk_precision)
            once = seen * _seconds_a_picture(trunk, lesson.first)
    return Cost(once + time.perf_counter() - started, epoch)


def _on_zeros(parts: Parts, lesson: Lesson) -> Learner:
    """Return what runs behind a cache, and activations as it would find there."""

    def cached(source: ImageDataset) -> CachedSource:
        return CachedSource(source, _zeros(parts.trunk, source))

    streams = {name: cached(one) for name, one in lesson.streams.items()}
    val = None if lesson.val is None else cached(lesson.val)
    return Learner(with_cheap_backward(parts.tail), streams, val)


def _zeros(trunk: keras.Model, source: ImageDataset) -> Activations:
    """Return activations of the right shape that take no room."""
    zero, sizes = np.float32(0), (source.views, source.num_examples)
    columns = [[np.broadcast_to(zero, (*sizes, *shape))] for shape in shapes_of(trunk.outputs)]
    return Activations(columns, "float32", 0)


def _epoch(model: keras.Model, learner: Learner, lesson: Lesson) -> float:
    _, update = trial_update(model, learner, lesson)
    start = tf.constant(0.0)
    seconds = lesson.first.steps_per_epoch * _seconds(
        lambda one: update(one.batches, one.share, start, one.epochs),
        batches_of(learner.streams, 0, tf.distribute.get_strategy()),
    )
    if learner.val is not None:
        forward = inference(learner.model)
        seconds += learner.val.steps_per_epoch * _seconds(
            lambda batch: forward(batch[0]), learner.val.indexed_batches(0)
        )
    return seconds


def _seconds_a_picture(trunk: keras.Model, source: ImageDataset) -> float:
    forward = inference(trunk)
    batches = source.every_picture(0, BATCH)
    return _seconds(lambda batch: forward(batch[0]), batches) / min(BATCH, source.num_examples)


def _seconds(call: Callable[[Any], Any], batches: Iterable[Any]) -> float:
    """Return the median seconds of a step, its batch fetched; of fewer batches than wanted the later half tells."""
    taken, rest = [], iter(batches)
    for _ in range(2 * STEPS):
        started = time.perf_counter()
        batch = next(rest, None)
        if batch is None:
            break
        # The answer is fetched: a step that is only under way is not done.
        tf.nest.map_structure(np.asarray, call(batch))
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[len(taken) // 2 :])

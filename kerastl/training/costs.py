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
from kerastl.data import EpochSource
from kerastl.training.activations import BATCH, Activations, shapes_of
from kerastl.training.backward import with_cheap_backward
from kerastl.training.cached_source import CachedSource
from kerastl.training.clock import Cost
from kerastl.training.feed import batches_of
from kerastl.training.learner import Learner, cached_front, part, shortened
from kerastl.training.phase import Phase
from kerastl.training.tracing import inference
from kerastl.training.trial import on_trial, trial_update

STEPS = 4
"""Steps that are timed, after as many that are not: tracing, and pictures that wait ready, are no rate."""


def cost_of(
    model: keras.Model, train: EpochSource, val: EpochSource | None, *, phase: Phase
) -> Cost:
    """Time some steps of a phase; the model is given back as it was, and no cache is filled.

    Args:
        model: a flat classifier.
        train: labelled pictures.
        val: likewise; None: there is no validation.
        phase: its `cache` is decided.
    """
    started = time.perf_counter()
    with on_trial(model, phase):
        if phase.cache == "none":
            learner = Learner(shortened(model, phase), train, val)
            once, epoch = 0.0, _epoch(model, learner, train, phase)
        else:
            parts = part(model, cached_front(model, phase))
            trains = CachedSource(train, _zeros(parts.trunk, train))
            vals = CachedSource(val, _zeros(parts.trunk, val)) if val else None
            learner = Learner(with_cheap_backward(parts.tail), trains, vals)
            epoch = _epoch(model, learner, train, phase)
            seen = train.num_examples * train.views + (val.num_examples if val else 0)
            once = seen * _seconds_a_picture(fold(parts.trunk, phase.trunk_precision), train)
    return Cost(once + time.perf_counter() - started, epoch)


def _zeros(trunk: keras.Model, source: EpochSource) -> Activations:
    """Return activations of the right shape that take no room."""
    zero, sizes = np.float32(0), (source.views, source.num_examples)
    columns = [[np.broadcast_to(zero, (*sizes, *shape))] for shape in shapes_of(trunk.outputs)]
    return Activations(columns, "float32", 0)


def _epoch(model: keras.Model, learner: Learner, pictures: EpochSource, phase: Phase) -> float:
    _, update = trial_update(model, learner.model, learner.train, pictures, phase)
    start, first = tf.constant(0.0), tf.constant(0, tf.int64)
    fed = batches_of(learner.train, 0, tf.distribute.get_strategy())
    steps = ((batch, share) for batch, share, _ in fed)
    seconds = learner.train.steps_per_epoch * _seconds(
        lambda one: update({"train": one[0]}, one[1], start, first), steps
    )
    if learner.val is not None:
        forward = inference(learner.model)
        seconds += learner.val.steps_per_epoch * _seconds(
            lambda batch: forward(batch[0]), learner.val.batches(0)
        )
    return seconds


def _seconds_a_picture(trunk: keras.Model, source: EpochSource) -> float:
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

"""A few steps on trial: the model is given back as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl.training.checkpoint import assign
from kerastl.training.freezing import silent_dropout, unfreeze
from kerastl.training.l2_sp import build_pull
from kerastl.training.learner import Learner
from kerastl.training.optimizer import build_optimizer, rate_factors
from kerastl.training.phase import Phase
from kerastl.training.step import trained_by
from kerastl.training.streams import Lesson
from kerastl.training.update import Update, build_update


@contextmanager
def on_trial(model: keras.Model, phase: Phase) -> Iterator[None]:
    """Set a model's flags for a phase; afterwards give back its weights, the seeds of its dropout, and its flags."""
    kept = [np.array(keras.ops.convert_to_numpy(one)) for one in model.variables]
    flags = [(layer, layer.trainable) for layer in model.layers]
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    scales = [one for norm in norms for one in (norm.gamma, norm.beta) if one is not None]
    before = [one.trainable for one in scales]
    try:
        unfreeze(model, phase.trainable, batch_norm=phase.batch_norm)
        with silent_dropout(model):
            yield
    finally:
        assign(model.variables, kept)
        for layer, flag in flags:
            layer.trainable = flag
        for variable, flag in zip(scales, before, strict=True):
            variable.trainable = flag


def trial_update(
    model: keras.Model, learner: Learner, lesson: Lesson
) -> tuple[Any, Callable[..., Any]]:
    """Return an optimizer and the update of a phase that uses it, on one device.

    Args:
        model: the whole classifier, its flags set.
        learner: what runs at each step, and what that reads.
        lesson: what is learnt, and how.
    """
    phase, step = lesson.phase, lesson.step
    variables = trained_by(step, model)
    start = {one.path: keras.ops.convert_to_numpy(one) for one in model.weights}
    optimizer = build_optimizer(phase, variables, rate_factors(model, phase))
    update: Update = build_update(
        learner.model, optimizer, step, variables, tf.distribute.get_strategy(), learner.streams,
        build_pull(phase.l2_sp, variables, start), phase.precision,
    )  # fmt: skip
    return optimizer, update

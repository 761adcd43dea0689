"""The steps of one epoch."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Any

import keras
import tensorflow as tf

from kerastl.console import track
from kerastl.recipe.phase import Phase
from kerastl.training.averages import Averages
from kerastl.training.checks import check_losses
from kerastl.training.feed import batches_of
from kerastl.training.learner import Source
from kerastl.training.schedule import learning_rate_at
from kerastl.training.state import TrainingState
from kerastl.training.update import Update


def run_steps(
    phase: Phase,
    streams: Mapping[str, Source],
    state: TrainingState,
    update: Update,
    optimizer: keras.Optimizer,
    averages: Averages,
    callbacks: Any,
    strategy: tf.distribute.Strategy,
    *,
    bar: bool,
) -> dict[str, Any]:
    """Run the steps of the epoch that training has come to; return the means over its first stream's pictures.

    Args:
        phase: its rate, schedule and length.
        streams: what is learnt from, by name; the epoch is one of the first.
        state: where training stands.
        update: of the weights.
        optimizer: its rate is set where the phase has a schedule.
        averages: of the weights; they follow.
        callbacks: Keras's list.
        strategy: whose replicas are fed.
        bar: whether a terminal shows one.

    Raises:
        Diverged: a loss is not a number.
    """
    sums: dict[str, float] = {}
    seen, steps = 0, next(iter(streams.values())).steps_per_epoch
    before, epochs = phase.schedule_span
    start = (before + state.phase_epochs) * steps
    fed: Any = batches_of(streams, state.epochs, strategy, start)
    if bar:
        fed = track(fed, f"epoch {state.epochs + 1}, {phase.name}", steps)
    with closing(fed):
        for index, (batches, share, numbers, count) in enumerate(fed):
            done = start + index
            if phase.schedule != "constant" or phase.warmup_epochs > 0:
                # Set only where it changes: callbacks that steer the rate keep their say otherwise.
                optimizer.learning_rate = learning_rate_at(
                    done, highest=phase.learning_rate, steps_per_epoch=steps, epochs=epochs,
                    schedule=phase.schedule, warmup_epochs=phase.warmup_epochs,
                )  # fmt: skip
            callbacks.on_train_batch_begin(index)
            progress = tf.constant(done / max(1, steps * epochs), tf.float32)
            told = update(batches, share, progress, numbers)
            averages.on_step()
            values = {name: float(value) for name, value in told.items()}
            where = f"phase {phase.name}, epoch {state.epochs + 1}, step {index + 1}"
            check_losses(values, where)
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + value * count
            seen += count
            callbacks.on_train_batch_end(index, {name: sums[name] / seen for name in sums})
    return {name: value / seen for name, value in sums.items()}

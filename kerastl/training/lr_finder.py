"""Which learning rate: one short training whose rate climbs from far too small to far too large.

Reference:
    Smith 2017, arXiv:1506.01186, section 3.3 (the range test).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl.data import ImageDataset
from kerastl.errors import RequestError, RunFailed
from kerastl.recipe.phase import Phase
from kerastl.training.checkpoint import assign
from kerastl.training.checks import check_phases, decide_phases
from kerastl.training.freeze import resolve_batch_norm, disable_frozen_dropout, unfreeze
from kerastl.training.loop import classification_step
from kerastl.training.optimizer import build_optimizer, build_l2_sp, rate_factors
from kerastl.training.step import PhaseData, trained_variables
from kerastl.training.train_step import StepInput, Update, step_inputs, build_update
from kerastl.training.trunk import PhaseNetwork, Source, activations_folder, build_phase_network

SMOOTHING = 0.9
"""Share of the loss that each step keeps of the steps before."""
DIVERGED = 4.0
"""The test ends where the loss stands at so many times its lowest."""
FEWEST_STEPS = 10
CLEAR_FALL = 1.5
"""Times its spread from batch to batch that the loss must fall by; mere noise does so in about 2 of 100 tests."""
ON_THE_WAY = 0.75
"""Share of its way down that the loss still has before it where it counts as falling."""
LEAST_FALL = 0.01
"""Share of the loss that it must fall by, where batches are all alike."""


@dataclass(frozen=True)
class LearningRateTest:
    """What one climb showed.

    Args:
        rates: `[steps]`, rising by one factor from step to step.
        losses: `[steps]`, of each step's batch.
        smoothed: `[steps]`, a moving average of the losses, free of bias towards its start.
        suggestions: a rate by rule: `valley`, `steepest`, `minimum_tenth`; see `suggest`. Empty where the loss did not
            fall beyond its noise: nothing can be read off such a curve.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestions: dict[str, float]


def find_learning_rate(
    model: keras.Model,
    train: ImageDataset,
    *,
    phase: Phase,
    lowest: float = 1e-6,
    highest: float = 3.0,
    steps: int = 100,
    first_epoch: int = 0,
    cache_dir: Path | None = None,
) -> LearningRateTest:
    """Train for some steps at a climbing rate; give the model back as it was.

    Args:
        model: a flat classifier; its weights, flags and optimizer are the same afterwards.
        train: labelled images, shuffled; at least one batch.
        phase: what may move, and how; its rate and schedule are not looked at.
        lowest, highest: rates of the first and the last step.
        steps: at least 10; fewer are run where the loss diverges.
        first_epoch: epochs are counted from here: another one gives the images in another order.
        cache_dir: as in `fit`.

    Raises:
        RequestError: the phase cannot be run, there is no batch, or the rates do not rise.
        RunFailed: an image can no longer be read, or the loss was no number within the first 10 steps.
    """
    _check_request(train, lowest, highest, steps)
    (phase,) = decide_phases(
        [resolve_batch_norm(model, phase).model_copy(update={"accumulate": 1})], {phase.domain: train}
    )
    cache_dir = cache_dir or activations_folder()
    alone = phase.model_copy(update={"early_stopping": None})
    check_phases(model, [alone], trains={phase.domain: train}, vals={}, cache_dir=cache_dir)
    phase_data = PhaseData(phase, classification_step(phase, train), {"train": train})
    with _restored(model, phase):
        learner = build_phase_network(model, phase_data, cache_dir)
        rates = _rates(lowest, highest, steps)
        rates, losses = _climb(model, phase_data, rates, learner, first_epoch)
    smoothed = smooth(losses)
    found = suggest(rates, smoothed) if falls(losses) else {}
    return LearningRateTest(tuple(rates), tuple(losses), tuple(smoothed), found)


def _check_request(train: ImageDataset, lowest: float, highest: float, steps: int) -> None:
    if train.steps_per_epoch < 1:
        raise RequestError(
            f"There are {train.num_examples} images, not one batch of them: nothing can be learnt."
        )
    if not 0 < lowest < highest < math.inf:
        raise RequestError(f"The rates must rise from above 0: lowest is {lowest:g}, highest {highest:g}.")
    if steps < FEWEST_STEPS:
        raise RequestError(f"steps: must be at least {FEWEST_STEPS}, got {steps}.")


def _rates(lowest: float, highest: float, steps: int) -> list[float]:
    return [float(rate) for rate in np.geomspace(lowest, highest, steps)]


def _climb(
    model: keras.Model, phase_data: PhaseData, rates: Sequence[float], learner: PhaseNetwork, first_epoch: int
) -> tuple[list[float], list[float]]:
    optimizer, update = _build_update(model, learner, phase_data)
    losses: list[float] = []
    lowest = math.inf
    for rate, fed in zip(rates, _endless(learner.streams, first_epoch), strict=False):
        optimizer.learning_rate = rate
        told = update(fed.batches, fed.share, tf.constant(0.0), fed.epochs)
        loss = float(told["loss"])
        if not math.isfinite(loss):
            break
        losses.append(loss)
        latest = smooth(losses)[-1]
        lowest = min(lowest, latest)
        if len(losses) > FEWEST_STEPS and latest > DIVERGED * lowest:
            break
    if len(losses) < FEWEST_STEPS:
        raise RunFailed(
            f"The loss was no number after {len(losses)} steps, at a rate of {rates[len(losses)]:.2g}. "
            "Begin with a smaller rate."
        )
    return list(rates[: len(losses)]), losses


def _endless(streams: Mapping[str, Source], first_epoch: int) -> Iterator[StepInput]:
    for epoch in count(first_epoch):
        yield from step_inputs(streams, epoch, tf.distribute.get_strategy())


def smooth(losses: Sequence[float]) -> list[float]:
    """Return the exponential moving average of losses, each divided by the weight it has so far."""
    found, average = [], 0.0
    for step, loss in enumerate(losses, start=1):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        found.append(average / (1 - SMOOTHING**step))
    return found


def falls(losses: Sequence[float]) -> bool:
    """Tell whether the loss falls from its first ten steps to its lowest by more than noise would.

    Args:
        losses: of each step's batch, from a rate too small to learn anything.
    """
    values = np.asarray(losses, np.float64)
    settled = np.asarray(smooth(losses)[FEWEST_STEPS - 1 :])
    lowest = int(np.argmin(settled)) + FEWEST_STEPS
    # The differences of neighbours do not see the fall itself; their median not the few large ones.
    between = np.abs(np.diff(values[: max(lowest, 2 * FEWEST_STEPS)]))
    spread = float(np.median(between)) / (0.6745 * math.sqrt(2)) if len(between) else 0.0
    start = float(values[:FEWEST_STEPS].mean())
    return start - float(settled.min()) > max(CLEAR_FALL * spread, LEAST_FALL * abs(start))


def suggest(rates: Sequence[float], smoothed: Sequence[float]) -> dict[str, float]:
    """Return a rate by each of three rules.

    Args:
        rates: rising.
        smoothed: the loss at each; the first 9, which few batches made, are not looked at.

    Returns:
        `valley`: two thirds down the longest fall of the loss (the longest run of steps, not all neighbours, each
        lower than the one before); `steepest`: where it falls fastest by the logarithm of the rate, once it has gone down
        a quarter of its way for good, as before that only chance makes it fall; `minimum_tenth`: a tenth of the rate at
        its lowest.
    """
    # Until so many batches are in it, the average is one of few images.
    rates, settled = rates[FEWEST_STEPS - 1 :], np.asarray(smoothed[FEWEST_STEPS - 1 :])
    lowest = int(np.argmin(settled))
    fall = _longest_fall(list(settled))
    slopes = np.gradient(settled, np.log(rates)) if len(rates) > 1 else settled
    way = settled[: lowest + 1]
    begun = int(np.flatnonzero(way >= way.min() + ON_THE_WAY * np.ptp(way))[-1])
    return {
        "valley": rates[fall[len(fall) * 2 // 3]],
        "steepest": rates[begun + int(np.argmin(slopes[begun : max(lowest, begun + 1)]))],
        "minimum_tenth": rates[lowest] / 10,
    }


def _longest_fall(values: Sequence[float]) -> list[int]:
    """Return the places of the longest strictly falling subsequence."""
    lengths, before = [1] * len(values), [-1] * len(values)
    for place, value in enumerate(values):
        for earlier in range(place):
            if values[earlier] > value and lengths[earlier] + 1 > lengths[place]:
                lengths[place], before[place] = lengths[earlier] + 1, earlier
    place, found = int(np.argmax(lengths)), []
    while place >= 0:
        found.append(place)
        place = before[place]
    return found[::-1]


@contextmanager
def _restored(model: keras.Model, phase: Phase) -> Iterator[None]:
    """Set the flags of a model for a phase, and restore its weights, random states and flags afterwards."""
    kept = [np.array(keras.ops.convert_to_numpy(one)) for one in model.variables]
    flags = [(layer, layer.trainable) for layer in model.layers]
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    scales = [one for norm in norms for one in (norm.gamma, norm.beta) if one is not None]
    before = [one.trainable for one in scales]
    try:
        unfreeze(model, phase.trainable, batch_norm=phase.batch_norm)
        with disable_frozen_dropout(model):
            yield
    finally:
        assign(model.variables, kept)
        for layer, flag in flags:
            layer.trainable = flag
        for variable, flag in zip(scales, before, strict=True):
            variable.trainable = flag


def _build_update(
    model: keras.Model, learner: PhaseNetwork, phase_data: PhaseData
) -> tuple[Any, Callable[..., Any]]:
    """Return an optimizer and the update step of a phase that uses it, on one device."""
    phase, step = phase_data.phase, phase_data.step
    variables = trained_variables(step, model)
    start = {one.path: keras.ops.convert_to_numpy(one) for one in model.weights}
    optimizer = build_optimizer(phase, variables, rate_factors(model, phase))
    update: Update = build_update(
        learner.model, optimizer, step, variables, tf.distribute.get_strategy(), learner.streams,
        build_l2_sp(phase.l2_sp, variables, start), phase.precision,
    )  # fmt: skip
    return optimizer, update

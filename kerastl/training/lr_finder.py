"""The learning-rate finder: a short training with an increasing learning rate.

Reference:
    Smith 2017, arXiv:1506.01186, section 3.3 (the learning rate range test).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Annotated

import keras
import numpy as np
import tensorflow as tf
from annotated_types import Ge

from kerastl.data import ImageDataset
from kerastl.errors import RequestError, RunFailed
from kerastl.options import checked
from kerastl.recipe.phase import Phase
from kerastl.training import freeze
from kerastl.training.checks import decide_phases
from kerastl.training.loop import classification_step
from kerastl.training.optimizer import build_optimizer, rate_factors
from kerastl.training.step import PhaseData, trained_variables
from kerastl.training.train_step import build_update, step_inputs
from kerastl.training.trunk import PhaseNetwork, activations_folder, build_phase_network

SMOOTHING = 0.9
"""Weight of the previous steps in the moving average of the loss."""
DIVERGENCE_FACTOR = 4.0
"""The test ends when the smoothed loss is this many times its minimum."""
MIN_STEPS = 10
NOISE_FACTOR = 1.5
"""The loss must fall by this many times its spread between batches. Noise alone does so in about 2 of 100 tests."""
REMAINING_FALL = 0.75
"""The loss counts as falling when this fraction of its total fall remains."""
MIN_RELATIVE_FALL = 0.01
"""The loss must fall by this fraction if all batches have the same loss."""


@dataclass(frozen=True)
class LearningRateTest:
    """The result of `find_learning_rate`.

    Args:
        rates: `[steps]` learning rates, each a constant factor above the previous one.
        losses: `[steps]`, the loss of each step's batch.
        smoothed: `[steps]`, a bias-corrected moving average of the losses.
        suggestions: A learning rate for each rule, see `suggest`: `valley`, `steepest`, `minimum_tenth`. Empty if the loss
            did not fall by more than its noise.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestions: dict[str, float]


@checked
def find_learning_rate(
    model: keras.Model,
    train: ImageDataset,
    *,
    phase: Phase,
    lowest: float = 1e-6,
    highest: float = 3.0,
    steps: Annotated[int, Ge(MIN_STEPS)] = 100,
    first_epoch: int = 0,
    cache_dir: Path | None = None,
) -> LearningRateTest:
    """Train for some steps with an increasing learning rate, then restore the model.

    Args:
        model: Any classifier, as in `fit`. Its weights, flags and optimizer are restored.
        train: Labeled images, shuffled, at least one batch.
        phase: The layers to train, and how. Its learning rate and schedule are ignored.
        lowest, highest: Learning rates of the first and the last step.
        steps: Number of steps, at least 10. The test ends early if the loss diverges.
        first_epoch: The first epoch. A different value gives a different order of the images.
        cache_dir: As in `fit`.

    Raises:
        RequestError: If the phase cannot be run, if there is no batch, or if the learning rates do not increase.
        RunFailed: If an image can no longer be read, or if the loss is not finite within the first 10 steps.

    Example:
    ```python
    result = kerastl.training.find_learning_rate(model, train, phase=kerastl.Phase("head", epochs=1))
    print(result.suggestions["valley"])
    ```
    """
    model = freeze.as_trainable(model, train)
    _check_request(train, lowest, highest)
    cache_dir = cache_dir or activations_folder()
    phase = freeze.resolve_batch_norm(model, phase).model_copy(
        update={"accumulate": 1, "early_stopping": None}
    )
    (phase,) = decide_phases(model, [phase], [[train]], vals={}, cache_dir=cache_dir)
    data = PhaseData(phase, classification_step(phase, train), {"train": train})
    with _restored(model, phase):
        network = build_phase_network(model, data, cache_dir)
        rates, losses = _run(model, data, np.geomspace(lowest, highest, steps).tolist(), network, first_epoch)
    smoothed = smooth(losses)
    suggestions = suggest(rates, smoothed) if falls(losses) else {}
    return LearningRateTest(tuple(rates), tuple(losses), tuple(smoothed), suggestions)


def _check_request(train: ImageDataset, lowest: float, highest: float) -> None:
    if train.steps_per_epoch < 1:
        raise RequestError(
            f"{train.num_examples} images are fewer than one batch. Add images, or reduce the batch size."
        )
    if not 0 < lowest < highest < math.inf:
        raise RequestError(
            f"The learning rates must be above 0 and increase, got lowest {lowest:g} and highest {highest:g}."
        )


def _run(
    model: keras.Model, data: PhaseData, rates: list[float], network: PhaseNetwork, first_epoch: int
) -> tuple[list[float], list[float]]:
    """Return the learning rates and losses of the steps until the loss diverges, on one device."""
    strategy = tf.distribute.get_strategy()
    variables = trained_variables(data.step, model)
    optimizer = build_optimizer(data.phase, variables, rate_factors(model, data.phase))
    update = build_update(network, data, optimizer, variables, strategy, freeze.backbone_values(model))
    epochs = (step_inputs(network.streams, epoch, strategy) for epoch in count(first_epoch))
    losses: list[float] = []
    lowest = math.inf
    for rate, inputs in zip(rates, chain.from_iterable(epochs), strict=False):
        optimizer.learning_rate = rate
        loss = float(update(inputs.batches, inputs.share, tf.constant(0.0), inputs.epochs)["loss"])
        if not math.isfinite(loss):
            break
        losses.append(loss)
        latest = smooth(losses)[-1]
        lowest = min(lowest, latest)
        if len(losses) > MIN_STEPS and latest > DIVERGENCE_FACTOR * lowest:
            break
    if len(losses) < MIN_STEPS:
        raise RunFailed(
            f"The loss became infinite or NaN after {len(losses)} steps, at a learning rate of "
            f"{rates[len(losses)]:.2g}. Start with a smaller learning rate."
        )
    return rates[: len(losses)], losses


def smooth(losses: Sequence[float]) -> list[float]:
    """Return the bias-corrected exponential moving average of losses."""
    smoothed, average = [], 0.0
    for step, loss in enumerate(losses, start=1):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        smoothed.append(average / (1 - SMOOTHING**step))
    return smoothed


def falls(losses: Sequence[float]) -> bool:
    """Return whether the loss falls from its first ten steps to its minimum by more than its noise.

    Args:
        losses: The loss of each step's batch, with an initial learning rate that is too small to train.
    """
    values = np.asarray(losses, np.float64)
    smoothed = np.asarray(smooth(losses)[MIN_STEPS - 1 :])
    lowest = int(np.argmin(smoothed)) + MIN_STEPS
    # Differences of neighbors exclude the trend, and their median excludes a few large ones.
    differences = np.abs(np.diff(values[: max(lowest, 2 * MIN_STEPS)]))
    spread = float(np.median(differences)) / (0.6745 * math.sqrt(2)) if len(differences) else 0.0
    start = float(values[:MIN_STEPS].mean())
    return start - float(smoothed.min()) > max(NOISE_FACTOR * spread, MIN_RELATIVE_FALL * abs(start))


def suggest(rates: Sequence[float], smoothed: Sequence[float]) -> dict[str, float]:
    """Return a learning rate for each of three rules.

    Args:
        rates: Increasing learning rates.
        smoothed: The smoothed loss of each. The first 9, which average few batches, are ignored.

    Returns:
        `valley`: at two thirds of the longest fall of the loss (the longest strictly decreasing subsequence).
        `steepest`: where the loss falls fastest over the logarithm of the learning rate, after it has lost a quarter of
        its total fall for good, because an earlier fall is due to chance. `minimum_tenth`: a tenth of the learning rate
        at the minimum.
    """
    rates, losses = rates[MIN_STEPS - 1 :], np.asarray(smoothed[MIN_STEPS - 1 :])
    lowest = int(np.argmin(losses))
    fall = _longest_fall(list(losses))
    slopes = np.gradient(losses, np.log(rates)) if len(rates) > 1 else losses
    descent = losses[: lowest + 1]
    start = int(np.flatnonzero(descent >= descent.min() + REMAINING_FALL * np.ptp(descent))[-1])
    return {
        "valley": rates[fall[len(fall) * 2 // 3]],
        "steepest": rates[start + int(np.argmin(slopes[start : max(lowest, start + 1)]))],
        "minimum_tenth": rates[lowest] / 10,
    }


def _longest_fall(values: Sequence[float]) -> list[int]:
    """Return the indices of the longest strictly decreasing subsequence."""
    lengths, previous = [1] * len(values), [-1] * len(values)
    for index, value in enumerate(values):
        for earlier in range(index):
            if values[earlier] > value and lengths[earlier] + 1 > lengths[index]:
                lengths[index], previous[index] = lengths[earlier] + 1, earlier
    index, indices = int(np.argmax(lengths)), []
    while index >= 0:
        indices.append(index)
        index = previous[index]
    return indices[::-1]


@contextmanager
def _restored(model: keras.Model, phase: Phase) -> Iterator[None]:
    """Set the flags of a model for a phase; then restore its weights, random states and flags."""
    flags = [(owner, owner.trainable) for owner in (*model._flatten_layers(), *model.weights)]
    try:
        freeze.unfreeze(model, phase.trainable, batch_norm=phase.batch_norm)
        with freeze.preserve_values(model.variables), freeze.disable_frozen_dropout(model):
            yield
    finally:
        for owner, flag in flags:
            owner.trainable = flag

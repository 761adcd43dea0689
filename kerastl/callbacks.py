"""A time budget as a callback: phases end early when the time for them is used up."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import keras

from kerastl.console import print_status
from kerastl.recipe.phase import Phase


class TimeBudget(keras.callbacks.Callback):
    """Stop each phase of `fit` when its share of a time budget is used up.

    Each phase has a share of the time in proportion to its epochs; time that a phase does not use is left to the phases after it.
    A phase stops after an epoch if the next one, which is expected to take the same time, would exceed the
    share. Every phase trains for at least one epoch. Validation, checkpoints and filling a cache count as training.

    Args:
        seconds: The budget of all phases.
        phases: The phases of `fit`.

    Attributes:
        elapsed_s: The seconds used so far. `fit` keeps it in its checkpoints, so that a resumed training has the rest.
    """

    def __init__(self, seconds: float, phases: Sequence[Phase]) -> None:
        super().__init__()
        self._phases = tuple(phases)
        epochs = list(accumulate(phase.epochs for phase in phases))
        self._deadlines = [seconds * done / epochs[-1] for done in epochs]
        self.elapsed_s = 0.0
        self.phase_index = -1
        self.phase_epochs = 0

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002 - Keras passes it
        """Begin a phase."""
        self.phase_index += 1
        self.phase_epochs = 0
        self._counted_until = time.perf_counter()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras passes it
        """Begin to measure an epoch."""
        self._epoch_start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras passes it
        """Stop the phase if there is no time for another epoch."""
        now = time.perf_counter()
        self.elapsed_s += now - self._counted_until
        self._counted_until = now
        self.phase_epochs += 1
        phase = self._phases[self.phase_index]
        expected_s = self.elapsed_s + now - self._epoch_start
        if self.phase_epochs < phase.epochs and expected_s > self._deadlines[self.phase_index]:
            self.model.stop_training = True
            print_status(
                f"Time budget: phase {phase.name} stops after {self.phase_epochs} of {phase.epochs} epochs."
            )

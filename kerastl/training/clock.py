"""The time left in a training, from the time of its epochs so far."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from kerastl.recipe.phase import Phase
from kerastl.training.state import TrainingState

WORTH_A_BAR_S = 2.0
"""An epoch shows a progress bar if the one before took this long; shorter bars only flicker."""


class Clock:
    """The time of each epoch, and the time left.

    Args:
        phases: All of them, in order.
    """

    def __init__(self, phases: Sequence[Phase]) -> None:
        self._phases = tuple(phases)
        self._phase, self._seconds = 0, list[float]()

    @property
    def bar_is_worth_it(self) -> bool:
        """Whether an epoch is long enough for a progress bar; the first one always is."""
        return not self._seconds or self._seconds[-1] >= WORTH_A_BAR_S

    def took(self, seconds: float, state: TrainingState) -> dict[str, Any]:
        """Add an epoch and return the time left.

        The estimate is the median of the phase's epochs. The first epoch also traces, and counts only while it is the only one.

        Args:
            seconds: Of that epoch.
            state: After it.

        Returns:
            `seconds_left`: of the current phase. `at_most`: whether early stopping can make it less. `untimed`:
            the names of later phases, whose time is unknown.
        """
        if state.phase != self._phase:
            self._phase, self._seconds = state.phase, []
        self._seconds.append(seconds)
        phase, *later = self._phases[state.phase :]
        epochs = 0 if state.stopped else phase.epochs - state.phase_epochs
        to_come = [*([phase] if epochs else []), *later]
        return {
            "seconds_left": epochs * statistics.median(self._seconds[1:] or self._seconds),
            "at_most": any(one.early_stopping is not None for one in to_come),
            "untimed": [one.name for one in later],
        }

"""How long what is left of a training takes, by what its epochs took so far."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kerastl.training.phase import Phase
from kerastl.training.state import TrainingState

WORTH_A_BAR_S = 2.0
"""Seconds from which on an epoch shows a bar: one that is gone at once only flickers."""


@dataclass(frozen=True)
class Cost:
    """Seconds that a phase takes.

    Args:
        once: before its first epoch: tracing, and filling its cache.
        epoch: each epoch, training and validation.
    """

    once: float
    epoch: float


class Clock:
    """The time of each epoch, and what is left.

    Args:
        phases: all of them, in order.
        costs: what a trial said of each, as `cost_of` returns it; empty: no trial was made.
    """

    def __init__(self, phases: Sequence[Phase], costs: Sequence[Cost] = ()) -> None:
        self._phases, self._costs = tuple(phases), tuple(costs)
        self._phase, self._taken = 0, list[float]()

    @property
    def bar_is_worth_it(self) -> bool:
        """Whether an epoch takes long enough to watch it; the first of all is thought to."""
        return not self._taken or self._taken[-1] >= WORTH_A_BAR_S

    def took(self, seconds: float, state: TrainingState) -> dict[str, Any]:
        """Take in an epoch; return what is left.

        The first epoch of a phase also traces: it counts as long as there is no other. Of the others the median does.

        Args:
            seconds: of that epoch.
            state: behind it.

        Returns:
            `seconds_left`: of the phase under way, and of each later one that was on trial. `at_most`: whether early
            stopping may make it less. `untimed`: names of later phases that nothing is known of; they come on top.
        """
        if state.phase != self._phase:
            self._phase, self._taken = state.phase, []
        self._taken.append(seconds)
        phase, *later = self._phases[state.phase :]
        epochs = 0 if state.stopped else phase.epochs - state.phase_epochs
        left = epochs * statistics.median(self._taken[1:] or self._taken)
        costs = self._costs[state.phase + 1 :]
        left += sum(
            cost.once + one.epochs * cost.epoch for one, cost in zip(later, costs, strict=False)
        )
        to_come = [*([phase] if epochs else []), *later]
        return {
            "seconds_left": left,
            "at_most": any(one.early_stopping is not None for one in to_come),
            "untimed": [one.name for one in later[len(costs) :]],
        }

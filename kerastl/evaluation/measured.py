"""One figure as `scores.json` tells it: a value with its interval, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kerastl.evaluation.bootstrap import FEWEST_GROUPS, Figure, Resamples, interval, resample
from kerastl.evaluation.groups import units_of
from kerastl.evaluation.predictions import Array, Predictions

UNDEFINED = "it is undefined in most resamples"
COUNTED = "counted, not estimated"


@dataclass(frozen=True)
class Part:
    """Labelled predictions that are scored together, with their resamples.

    Args:
        predictions: of one split, or of one domain of it.
        drawn: their resamples.
        level: of the intervals, 0 to 1.
    """

    predictions: Predictions
    drawn: Resamples
    level: float

    @property
    def no_interval(self) -> str:
        """Why there is no interval; empty where there is one."""
        return why_no_interval(self.drawn.groups)

    def tell(self, figure: Figure, undefined: str) -> dict[str, Any]:
        """Return one figure with its interval; `undefined` is the reason where it has no value."""
        value = float(self.drawn.value(figure))
        if np.isnan(value):
            return nothing(undefined)
        if self.no_interval:
            return value_only(value, self.no_interval)
        return measured(value, self.drawn.values(figure), self.level)

    def tell_columns(self, figure: Figure, undefined: str) -> list[dict[str, Any]]:
        """Return a list of figures, for a function that returns `[resamples, figures]`."""
        values = self.drawn.value(figure).tolist()
        if self.no_interval:
            return [_plain(value, undefined, self.no_interval) for value in values]
        resampled = self.drawn.values(figure)
        return [
            nothing(undefined) if np.isnan(value) else measured(value, column, self.level)
            for value, column in zip(values, resampled.T, strict=True)
        ]


def part_of(one: Predictions, *, seed: int, resamples: int, level: float) -> Part:
    """Return labelled predictions with their resamples, drawn by group within each domain."""
    drawn = resample(units_of(one), one.domains, one.labels, seed=seed, resamples=resamples)
    return Part(one, drawn, level)


def why_no_interval(groups: int, of_class: str = "") -> str:
    """Return why so few groups get no interval; empty where they get one."""
    if groups >= FEWEST_GROUPS:
        return ""
    return f"{groups} groups{of_class} are fewer than {FEWEST_GROUPS}: no interval is given"


def nothing(reason: str) -> dict[str, Any]:
    """Return a figure that has no value."""
    return {"value": None, "low": None, "high": None, "reason": reason}


def value_only(value: float, reason: str) -> dict[str, Any]:
    """Return a figure that has no interval."""
    return {"value": value, "low": None, "high": None, "reason": reason}


def measured(value: float, resampled: Array, level: float) -> dict[str, Any]:
    """Return a figure with the interval of its resampled values."""
    found = interval(resampled, level=level)
    if found is None:
        return value_only(value, UNDEFINED)
    return {"value": value, "low": found[0], "high": found[1]}


def _plain(value: float, undefined: str, no_interval: str) -> dict[str, Any]:
    return nothing(undefined) if np.isnan(value) else value_only(value, no_interval)

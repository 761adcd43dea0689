"""Tests and bounds for a share of pictures, when pictures of one group (patient) are alike; and Holm's rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

FEWEST_MOVED_GROUPS = 5
"""Groups that must show an effect before it is believed: a normal tail says little about fewer."""

SMALLEST_VARIANCE = 1e-12


@dataclass(frozen=True)
class Excess:
    """By how much a share of pictures rose.

    Args:
        value: mean over pictures, -1 to 1.
        p: of the hypothesis that the true value is at most the margin; 1 where too few groups show it.
        upper: one-sided 95 % bound above the true value.
    """

    value: float
    p: float
    upper: float


def excess(changes: Array, groups: Array, *, margin: float, level: float = 0.95) -> Excess:
    """Test whether a mean of changes lies above a margin, groups drawn, not pictures.

    A t statistic with the cluster-robust standard error of a mean (Liang & Zeger 1986, doi
    10.1093/biomet/73.1.13, with the factor G / (G - 1)), G - 1 degrees of freedom for G groups. The standard
    error is never taken below that of a share equal to the margin: where no picture moved, the observed spread
    is zero and the true one is not.

    Args:
        changes: `[n]`, one a picture, -1 to 1: its share of draws that moved, less 1 where it was there untouched.
        groups: `[n]` ints.
        margin: 0 to 1.
        level: of the upper bound.
    """
    from scipy import stats

    count = len(changes)
    _, place = np.unique(groups, return_inverse=True)
    number = int(place.max()) + 1 if count else 0
    if number < 2:
        return Excess(float(changes.mean()) if count else 0.0, 1.0, 1.0)
    value = float(changes.mean())
    sums = np.bincount(place, changes - value)
    variance = number / (number - 1) * float((sums**2).sum()) / count**2
    error = max(variance, margin * (1 - margin) / number, SMALLEST_VARIANCE) ** 0.5
    upper = value + float(stats.t.ppf(level, number - 1)) * error
    moved = int((np.bincount(place, np.maximum(changes, 0.0)) > 0).sum())
    if moved < FEWEST_MOVED_GROUPS:
        return Excess(value, 1.0, upper)
    return Excess(value, float(stats.t.sf((value - margin) / error, number - 1)), upper)


def holm(p_values: Sequence[float], *, level: float) -> list[bool]:
    """Tell which hypotheses fall when the chance of felling any true one is kept below `level`.

    Reference:
        Holm 1979, Scandinavian Journal of Statistics 6, 65-70.
    """
    order = np.argsort(np.asarray(p_values), kind="stable")
    fallen = [False] * len(p_values)
    for rank, place in enumerate(order):
        if p_values[place] > level / (len(p_values) - rank):
            break
        fallen[place] = True
    return fallen

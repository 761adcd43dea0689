"""Judged by those who did not see them: folds that keep groups whole, and an AUC within folds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kerastl.evaluation.bootstrap import Figure
from kerastl.evaluation.metrics import binary_auc

Array = np.ndarray[Any, Any]

FOLDS = 5
WIDER = 2**0.5


def group_folds(labels: Array, units: Sequence[str], seed: int) -> list[tuple[Array, Array]]:
    """Return (rows to learn from, rows to judge), every row judged once; none where a label has one group only.

    Args:
        labels: `[n]` int, spread over the folds alike.
        units: the group of each row; held out whole.
        seed: of the folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    # Order of appearance, not of names: the folds do not change when patients are renamed.
    numbers = {unit: place for place, unit in enumerate(dict.fromkeys(units))}
    groups = np.array([numbers[unit] for unit in units])
    fewest = min(len(np.unique(groups[labels == label])) for label in np.unique(labels))
    if fewest < 2:
        return []
    splitter = StratifiedGroupKFold(min(FOLDS, fewest), shuffle=True, random_state=seed)
    return list(splitter.split(labels[:, None], labels, groups))


def cross_fitted(
    folds: Sequence[tuple[Array, Array]], judge: Callable[[Array, Array], Array], size: int
) -> Array:
    """Return `[size]` float64 scores; `judge(learnt, held_out)` gives those of the rows held out."""
    scores = np.zeros(size)
    for learnt, held_out in folds:
        scores[held_out] = judge(learnt, held_out)
    return scores


def auc_within(
    folds: Sequence[tuple[Array, Array]], positive: Array, scores: Array, base: Array
) -> Figure:
    """Return the AUC over pairs of one fold, as a function of the pictures' weights.

    Scores of different folds come of different classifiers. Compared with each other they lie below 0.5 where there is
    nothing to learn: a fold with more positives than its share was judged by a classifier that saw fewer.

    Args:
        folds: rows to judge.
        positive: `[n]` bool.
        scores: `[n]`.
        base: `[n]`, what weights are multiplied with.
    """

    def figure(weights: Array) -> Array:
        won, pairs = np.zeros(len(weights)), np.zeros(len(weights))
        for _, rows in folds:
            drawn = weights[:, rows] * base[rows]
            mass = drawn[:, positive[rows]].sum(axis=1) * drawn[:, ~positive[rows]].sum(axis=1)
            area = binary_auc(positive[rows], scores[rows], drawn)
            won += np.where(mass > 0, mass * np.nan_to_num(area), 0.0)
            pairs += mass
        unknown = np.full(len(weights), np.nan)
        areas: Array = np.divide(won, pairs, out=unknown, where=pairs > 0)
        return areas

    return figure


def widened(found: dict[str, Any]) -> dict[str, Any]:
    """Return a cross-validated figure with its bootstrap interval sqrt(2) times as wide, kept within 0 to 1.

    The bootstrap takes folds for independent, and they are not: where there is nothing to learn, what fold f gains by the
    classifier that saw fold g, fold g gains by the one that saw f. Each of these products of noise is counted twice, so that the
    variance is twice that of the bootstrap. As it is, an interval of 95 % lies above 0.5 for 8 % of equal sites, and not for
    2.5 %. Where sites do differ the wider interval errs on the side of caution.
    """
    if found["low"] is None:
        return found
    value = found["value"]
    low = value - WIDER * (value - found["low"])
    high = value + WIDER * (found["high"] - value)
    return found | {"low": max(0.0, low), "high": min(1.0, high)}


def above_chance(area: Mapping[str, Any]) -> bool | None:
    """Return whether an AUC is above 0.5 by its interval; None: it has none, so that it cannot be told.

    Args:
        area: `{value, low, high}`, `low` None where there is no interval.
    """
    return None if area["low"] is None else bool(area["low"] > 0.5)

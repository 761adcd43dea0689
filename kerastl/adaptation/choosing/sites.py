"""Whether the site alone predicts the label, so that a model may learn to know hospitals where it should know diseases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kerastl.adaptation.choosing.folds import above_chance, auc_within, group_folds, widened
from kerastl.errors import RequestError
from kerastl.evaluation.bootstrap import measured, nothing, resample, value_only, why_no_interval

Array = np.ndarray[Any, Any]


def site_tells_label(
    sites: Sequence[str],
    labels: Array,
    groups: Sequence[str] | None = None,
    *,
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
) -> dict[str, Any]:
    """Return the AUC of the label predicted from the site and nothing else, cross-validated by group.

    Where the sites differ in how common a disease is, and pictures tell the site (`tell_apart`), a model of both sites has a
    shortcut: it scores high on pictures of these sites and fails at a third.

    Args:
        sites: of each picture, at least two.
        labels: `[n]` int.
        groups: patients; None: each picture is by itself.
        seed: of folds and resamples.
        resamples, level: of the bootstrap, which draws whole groups within each site.

    Returns:
        `{value, low, high}`, the mean one-vs-rest AUC of more than two classes, `reason` where one of them is None, and
        `shortcut`: True where the interval is above 0.5, None where that cannot be told.

    Raises:
        RequestError: lengths differ, or there is one site or one class.

    Reference:
        Zech et al. 2018, doi:10.1371/journal.pmed.1002683 (sorting radiographs by the prevalence of their hospital alone).
    """
    names, place = np.unique(np.asarray(sites), return_inverse=True)
    classes, label = np.unique(labels, return_inverse=True)
    if not len(sites) == len(labels) == len(sites if groups is None else groups):
        raise RequestError("Sites, labels and groups must have one entry a picture each.")
    if len(names) < 2 or len(classes) < 2:
        raise RequestError(
            f"Two sites and two classes are needed, got {len(names)} and {len(classes)}."
        )
    given = [""] * len(sites) if groups is None else groups
    units = [group or f"\0{row}" for row, group in enumerate(given)]
    folds = group_folds(label, units, seed)
    if not folds:
        return nothing("a class with one patient cannot be held out") | {"shortcut": None}
    columns = [1] if len(classes) == 2 else list(range(len(classes)))
    figures = [_figure(folds, place, label == column) for column in columns]

    def mean(weights: Array) -> Array:
        values: Array = np.mean([figure(weights) for figure in figures], axis=0)
        return values

    apart = [f"{at}\0{unit}" for at, unit in zip(place, units, strict=True)]
    drawn = resample(apart, [str(at) for at in place], label, seed=seed, resamples=resamples)
    value = float(drawn.value(mean))
    if reason := why_no_interval(len(set(units))):
        return value_only(value, reason) | {"shortcut": None}
    found = widened(measured(value, drawn.values(mean), level))
    return found | {"shortcut": above_chance(found)}


def _figure(folds: list[tuple[Array, Array]], place: Array, positive: Array) -> Any:
    """Score each picture by how common the class is at its site, among patients of the other folds."""
    scores = np.zeros(len(place))
    for learnt, held_out in folds:
        of_site = np.bincount(place[learnt], minlength=place.max() + 1)
        found = np.bincount(place[learnt][positive[learnt]], minlength=place.max() + 1)
        # One picture of each kind more, so that a site that a fold does not know counts as even.
        scores[held_out] = ((found + 1) / (of_site + 2))[place[held_out]]
    return auc_within(folds, positive, scores, np.ones(len(place)))

"""Two curves that say whether probabilities can be believed, and whether acting on them does good."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from kerastl.evaluation.measured import Part
from kerastl.evaluation.metrics import equal_mass_bins, told_and_true
from kerastl.evaluation.predictions import Array

CURVE_BINS = 10
AT = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""Threshold probabilities of a decision curve."""


def reliability_of(part: Part, probabilities: Array) -> list[dict[str, Any]]:
    """Return the points of a reliability curve, ten bins of equal mass, those without pictures left out.

    Args:
        part: the labels and the resamples.
        probabilities: `[n, classes]` float64, of the part's pictures, as they are or scaled.

    Returns:
        `{"told": mean probability, "true": share that came true with its interval, "count"}` a bin;
        of two classes for the probability of the last one, of more for that of the answer.
    """
    told, true = told_and_true(part.predictions.labels, probabilities)
    bins = equal_mass_bins(told, CURVE_BINS)
    names = np.unique(bins)
    member = (bins[:, None] == names).astype(np.float64)
    shares = part.tell_columns(partial(_share_of_bins, member, true), "no picture")
    return [
        {
            "told": float(told[bins == name].mean()),
            "true": share,
            "count": int((bins == name).sum()),
        }
        for name, share in zip(names, shares, strict=True)
    ]


def _share_of_bins(member: Array, true: Array, weights: Array) -> Array:
    """Return `[resamples, bins]`: of the pictures of each bin, the share that came true."""
    count, hits = weights @ member, weights @ (member * true[:, None])
    share = np.full(count.shape, np.nan)
    np.divide(hits, count, out=share, where=count > 0)
    return share


def net_benefit(positive: Array, called: Array, weights: Array, *, at: tuple[float, ...]) -> Array:
    """Return `[resamples, thresholds]`: true positives less false ones, these weighed by the odds, a picture.

    Args:
        positive: `[n]` bool.
        called: `[n, thresholds]` bool, who is treated.
        weights: `[resamples, n]`.
        at: threshold probabilities, above 0 and below 1: at p, one found is worth (1 - p) / p false alarms.

    Reference:
        Vickers & Elkin 2006, doi:10.1177/0272989X06295361.
    """
    odds = np.array([one / (1 - one) for one in at])
    found = weights @ (called & positive[:, None]).astype(np.float64)
    alarms = weights @ (called & ~positive[:, None]).astype(np.float64)
    benefit: Array = (found - alarms * odds) / weights.sum(axis=1)[:, None]
    return benefit


def decision_of(part: Part, positive: int) -> dict[str, Any]:
    """Return the decision curve of the model beside treating all; treating none is 0 everywhere.

    Returns:
        `{"at": [...], "model": [M, ...], "all": [M, ...]}`, M a net benefit with its interval.
    """
    is_positive = part.predictions.labels == positive
    scores = part.predictions.probabilities[:, positive]
    called = scores[:, None] >= np.array(AT)
    told: dict[str, Any] = {"at": list(AT)}
    for name, treated in (("model", called), ("all", np.ones_like(called))):
        figure = partial(net_benefit, is_positive, treated, at=AT)
        told[name] = part.tell_columns(figure, "no picture")
    return told

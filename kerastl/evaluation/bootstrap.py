"""Resamples of whole groups, and the intervals that come of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
FEWEST_GROUPS = 10
MOST_TRIES = 100


@dataclass(frozen=True)
class Resamples:
    """How often each picture was drawn in each resample.

    Args:
        weights: `[resamples, n]` float64.
        redrawn: resamples that lacked a class and were drawn again.
        groups: number of groups that were drawn from.
    """

    weights: Array
    redrawn: int
    groups: int

    @property
    def too_few(self) -> str:
        """Why no interval is given; empty where one is."""
        if self.groups >= FEWEST_GROUPS:
            return ""
        return f"{self.groups} groups are fewer than {FEWEST_GROUPS}: no interval is given"


def group_names(groups: Sequence[str], domains: Sequence[str], paths: Sequence[str]) -> list[str]:
    """Return the unit of resampling of each picture: its group within its domain, or itself."""
    return [
        f"{domain}\0{'g' if group else 'p'}{group or path}"
        for group, domain, path in zip(groups, domains, paths, strict=True)
    ]


def resample(
    units: Sequence[str], domains: Sequence[str], labels: Array, *, seed: int, resamples: int
) -> Resamples:
    """Draw groups with replacement, within each domain (Efron & Tibshirani 1993, chapter 6).

    A resample that lacks a class which the data has is drawn again and counted.

    Args:
        units: the group of each picture; sorted before drawing, so the order of rows is irrelevant.
        domains: of each picture.
        labels: `[n]` int.
        seed: the same seed, the same draws.
        resamples: how many.
    """
    names, place = np.unique(np.asarray(units), return_inverse=True)
    home = dict(zip(units, domains, strict=True))
    of_domain = np.array([home[name] for name in names])
    strata = [np.flatnonzero(of_domain == domain) for domain in np.unique(of_domain)]
    classes = np.unique(labels)
    # [groups, classes]: which classes a group holds, to see at once what a resample lacks
    holds = np.zeros((len(names), len(classes)))
    np.add.at(holds, (place, np.searchsorted(classes, labels)), 1.0)
    generator = np.random.default_rng(seed)
    counts = np.zeros((resamples, len(names)))
    redrawn = 0
    for row in range(resamples):
        for _ in range(MOST_TRIES):
            counts[row] = _draw(generator, strata, len(names))
            if (counts[row] @ holds > 0).all():
                break
            redrawn += 1
    return Resamples(counts[:, place], redrawn, len(names))


def _draw(generator: np.random.Generator, strata: Sequence[Array], size: int) -> Array:
    drawn = np.concatenate([generator.choice(members, len(members)) for members in strata])
    return np.bincount(drawn, minlength=size).astype(np.float64)


def interval(values: Array, *, level: float) -> tuple[float, float] | None:
    """Return the percentile interval of resampled values; None where none could be computed."""
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(known, [tail, 100.0 - tail])
    return float(low), float(high)

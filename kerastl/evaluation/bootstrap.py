"""Resamples of whole groups, and the intervals that come of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Figure = Callable[[Array], Array]
"""Takes weights `[resamples, n]`, how often each picture was drawn; returns a row for each resample."""

FEWEST_GROUPS = 10
FEWEST_KNOWN = 0.5
MOST_TRIES = 100
NUMBERS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Resamples:
    """How often each group was drawn in each resample.

    Args:
        counts: `[resamples, groups]` int32.
        group_of: `[n]` int64, the group of each picture.
        redrawn: resamples that held one class only and were drawn again.
    """

    counts: Array
    group_of: Array
    redrawn: int

    @property
    def groups(self) -> int:
        """Number of groups that were drawn from."""
        return self.counts.shape[1]

    def value(self, figure: Figure) -> Array:
        """Return a figure of the pictures as they are, each counted once."""
        row: Array = figure(np.ones((1, len(self.group_of))))[0]
        return row

    def values(self, figure: Figure) -> Array:
        """Return a figure of every resample, computed in pieces that fit into memory."""
        rows = max(1, NUMBERS_AT_ONCE // max(1, len(self.group_of)))
        pieces = [
            figure(self.counts[start : start + rows, self.group_of].astype(np.float64))
            for start in range(0, len(self.counts), rows)
        ]
        return np.concatenate(pieces)


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

    A resample that holds one class only, where the data has more, is drawn again and counted.

    Args:
        units: the group of each picture; sorted before drawing, so the order of rows is irrelevant.
        domains: of each picture.
        labels: `[n]` int.
        seed: the same seed, the same draws.
        resamples: how many.
    """
    names, first, group_of = np.unique(np.asarray(units), return_index=True, return_inverse=True)
    of_domain = np.asarray(domains)[first]
    strata = [np.flatnonzero(of_domain == domain) for domain in np.unique(of_domain)]
    classes, label_places = np.unique(labels, return_inverse=True)
    holds = np.zeros((len(names), len(classes)), bool)
    holds[group_of, label_places] = True
    fewest_classes = min(2, len(classes))
    generator = np.random.default_rng(seed)
    counts = np.zeros((resamples, len(names)), np.int32)
    redrawn = 0
    for row in range(resamples):
        for _ in range(MOST_TRIES):
            counts[row] = _draw(generator, strata, len(names))
            if holds[counts[row] > 0].any(axis=0).sum() >= fewest_classes:
                break
            redrawn += 1
    return Resamples(counts, group_of, redrawn)


def _draw(generator: np.random.Generator, strata: Sequence[Array], size: int) -> Array:
    drawn = [members[generator.integers(len(members), size=len(members))] for members in strata]
    return np.bincount(np.concatenate(drawn), minlength=size)


def interval(values: Array, *, level: float) -> tuple[float, float] | None:
    """Return the percentile interval of resampled values.

    Args:
        values: `[resamples]`, NaN where a resample has no value.
        level: 0 to 1.

    Returns:
        (low, high), or None where fewer than half of the resamples have a value.
    """
    known = values[np.isfinite(values)]
    if len(known) < max(1.0, FEWEST_KNOWN * len(values)):
        return None
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(known, [tail, 100.0 - tail])
    return float(low), float(high)

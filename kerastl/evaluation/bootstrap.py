"""Resamples of whole groups, and the intervals that come of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerastl.evaluation.metrics import auc
from kerastl.evaluation.predictions import Array, Predictions

Statistic = Callable[[Array], Array]
"""Takes weights `[resamples, n]`, how often each image was drawn; returns a row for each resample."""

FEWEST_GROUPS = 10
FEWEST_KNOWN = 0.5
MOST_TRIES = 100
NUMBERS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Resamples:
    """How often each group was drawn in each resample.

    Args:
        counts: `[resamples, groups]` int32.
        group_of: `[n]` int64, the group of each image.
        redrawn: resamples that held one class only and were drawn again.
    """

    counts: Array
    group_of: Array
    redrawn: int

    @property
    def groups(self) -> int:
        """Number of groups that were drawn from."""
        return self.counts.shape[1]

    def value(self, figure: Statistic) -> Array:
        """Return a figure of the images as they are, each counted once."""
        row: Array = figure(np.ones((1, len(self.group_of))))[0]
        return row

    def values(self, figure: Statistic) -> Array:
        """Return a figure of every resample, computed in pieces that fit into memory."""
        rows = max(1, NUMBERS_AT_ONCE // max(1, len(self.group_of)))
        pieces = [
            figure(self.counts[start : start + rows, self.group_of].astype(np.float64))
            for start in range(0, len(self.counts), rows)
        ]
        return np.concatenate(pieces)


def group_names(groups: Sequence[str], domains: Sequence[str], paths: Sequence[str]) -> list[str]:
    """Return the unit of resampling of each image: its group within its domain, or itself."""
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
        units: the group of each image; sorted before drawing, so the order of rows is irrelevant.
        domains: of each image.
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


def resampling_units(one: Predictions) -> list[str]:
    """Return what is drawn together: the group of each image within its domain, or the image."""
    return group_names(one.groups, one.domains, one.paths)


def groups_disagree(one: Predictions) -> bool:
    """Tell whether some group has images of more than one class."""
    _, first, place = np.unique(np.asarray(resampling_units(one)), return_index=True, return_inverse=True)
    return bool((one.labels[first][place] != one.labels).any())


def group_auc_statistic(one: Predictions) -> Statistic:
    """Return the AUC of groups as a function of the images' weights.

    NaN where a group has images of more than one class, as it then has no label.
    """
    _, first, place = np.unique(np.asarray(resampling_units(one)), return_index=True, return_inverse=True)
    labels = one.labels[first]
    if (labels[place] != one.labels).any():
        return lambda weights: np.full(len(weights), np.nan)
    sums = np.zeros((len(first), len(one.class_names)))
    np.add.at(sums, place, one.probabilities)
    means = sums / np.bincount(place)[:, None]

    def figure(weights: Array) -> Array:
        # All images of a group are drawn together: the first one's weight is the group's.
        return auc(labels, means, weights[:, first])

    return figure


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
        return no_interval_reason(self.drawn.groups)

    def tell(self, figure: Statistic, undefined: str) -> dict[str, Any]:
        """Return one figure with its interval; `undefined` is the reason where it has no value."""
        value = float(self.drawn.value(figure))
        if np.isnan(value):
            return no_value(undefined)
        if self.no_interval:
            return without_interval(value, self.no_interval)
        return with_interval(value, self.drawn.values(figure), self.level)

    def estimate_columns(self, figure: Statistic, undefined: str) -> list[dict[str, Any]]:
        """Return a list of figures, for a function that returns `[resamples, figures]`."""
        values = self.drawn.value(figure).tolist()
        if self.no_interval:
            return [_plain(value, undefined, self.no_interval) for value in values]
        resampled = self.drawn.values(figure)
        return [
            no_value(undefined) if np.isnan(value) else with_interval(value, column, self.level)
            for value, column in zip(values, resampled.T, strict=True)
        ]


def resampled_part(one: Predictions, *, seed: int, resamples: int, level: float) -> Part:
    """Return labelled predictions with their resamples, drawn by group within each domain."""
    drawn = resample(resampling_units(one), one.domains, one.labels, seed=seed, resamples=resamples)
    return Part(one, drawn, level)


def no_interval_reason(groups: int, of_class: str = "") -> str:
    """Return why so few groups get no interval; empty where they get one."""
    if groups >= FEWEST_GROUPS:
        return ""
    return f"{groups} groups{of_class} are fewer than {FEWEST_GROUPS}: no interval is given"


def no_value(reason: str) -> dict[str, Any]:
    """Return a figure that has no value."""
    return {"value": None, "low": None, "high": None, "reason": reason}


def without_interval(value: float, reason: str) -> dict[str, Any]:
    """Return a figure that has no interval."""
    return {"value": value, "low": None, "high": None, "reason": reason}


def with_interval(value: float, resampled: Array, level: float) -> dict[str, Any]:
    """Return a figure with the interval of its resampled values."""
    found = interval(resampled, level=level)
    if found is None:
        return without_interval(value, UNDEFINED)
    return {"value": value, "low": found[0], "high": found[1]}


def _plain(value: float, undefined: str, no_interval: str) -> dict[str, Any]:
    return no_value(undefined) if np.isnan(value) else without_interval(value, no_interval)


DIGITS = 9
"""Significant digits that are told: sums of more depend on how many threads a matrix product uses."""


def plain(value: Any) -> Any:
    """Return plain data: dictionaries, lists, texts and rounded numbers."""
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    return value


@contextmanager
def single_threaded() -> Iterator[None]:
    """Let NumPy, SciPy and scikit-learn multiply in one thread inside; TensorFlow is not touched.

    Beside other work on two cores the guards of a choice take a seventh of the time so (21 s instead of 152), as k-means and its kind
    wait for each other's threads; and last digits no longer depend on how many cores there are.
    """
    import sklearn.cluster  # noqa: F401 - what is not loaded by now would not be limited
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield

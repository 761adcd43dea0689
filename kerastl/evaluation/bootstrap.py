"""Bootstrap resampling of whole groups: confidence intervals of metrics, and of the difference of two models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt, Le, Lt

from kerastl.errors import RequestError, pluralize
from kerastl.evaluation.metrics import OVERALL, Metric, auc
from kerastl.evaluation.predictions import Array, Predictions
from kerastl.options import checked
from kerastl.recipe import Seed

Rate = Annotated[float, Gt(0), Lt(1)]
Resamplings = Annotated[int, Ge(1), Le(100_000)]
Statistic = Callable[[Array], Array]
"""A function of weights `[resamples, n]`, the number of times each image was drawn. Returns a row per resample."""

MIN_GROUPS = 10
MIN_DEFINED_FRACTION = 0.5
MAX_REDRAWS = 100
MAX_WEIGHTS = 4_000_000
"""Weights that are computed at once, to limit memory."""
DIGITS = 9
"""Significant digits of results. Further digits depend on the number of threads of a matrix product."""
UNDEFINED = "undefined in most resamples"
CONSTANT = "no interval: it has the same value in every resample"
NO_ERROR = "no interval: no image is misclassified, so the loss of an error is unknown"
ROUNDING = 1e-9


@dataclass(frozen=True)
class Trials:
    """The sample size of a statistic from 0 to 1, for the intervals that the bootstrap underestimates.

    Args:
        groups: The number of independent trials if all images of a group may agree.
        images: The number of images, if the statistic is a proportion of them. None for other statistics.
    """

    groups: float
    images: int | None = None

    def interval(self, value: float, resampled: Array, level: float) -> tuple[float, float] | None:
        """Return the interval of a statistic.

        If resamples of at most a few groups reach 0 or 1, the groups are the trials. Otherwise, a proportion has as many
        trials as its variance over resamples implies (Korn & Graubard 1998), at most one per image, and another statistic
        has its percentile interval.

        Args:
            value: The statistic, 0 to 1.
            resampled: `[resamples]`, NaN if a resample has no value.
            level: Confidence level, 0 to 1.
        """
        limits = interval(resampled, level=level)
        if limits is None:
            return None
        trials = self.groups
        if not is_extreme(limits):
            if self.images is None:
                return limits
            if self.images > self.groups and (variance := float(np.nanvar(resampled))):
                trials = min(float(self.images), value * (1 - value) / variance)
        low, high = proportion_interval(value, trials, level=level)
        return min(low, limits[0]), max(high, limits[1])


def is_extreme(limits: tuple[float, float]) -> bool:
    """Return whether the percentile interval of a statistic from 0 to 1 reaches 0 or 1."""
    return limits[0] <= ROUNDING or limits[1] >= 1 - ROUNDING


def proportion_interval(value: float, trials: float, *, level: float) -> tuple[float, float]:
    """Return the exact interval of a proportion (Clopper & Pearson 1934), for a number of trials that may be a fraction.

    Reference:
        Clopper & Pearson 1934, doi:10.1093/biomet/26.4.404; Korn & Graubard 1998, Survey Methodology 24(2).
    """
    tail, hits = (1 - level) / 2, min(max(value, 0.0), 1.0) * trials
    from scipy.stats import beta  # takes half a second

    low = beta.ppf(tail, hits, trials - hits + 1) if hits > ROUNDING else 0.0
    high = beta.ppf(1 - tail, hits + 1, trials - hits) if trials - hits > ROUNDING else 1.0
    return float(low), float(high)


def mean_trials(groups: Array, *, level: float) -> float:
    """Return the number of trials of a mean of independent proportions, all of which are 1 (or all 0).

    It gives the lowest mean for which the probability of no error is that of the tail: `p_k = min(1, t * groups_k)`.

    Args:
        groups: `[classes]`, the number of trials of each proportion, at least 1.
        level: Confidence level, 0 to 1.
    """
    log_tail = np.log((1 - level) / 2)

    def rates(factor: float) -> Array:
        return np.minimum(1.0, factor * groups)

    def excess(log_factor: float) -> float:
        return float((groups * np.log(rates(np.exp(log_factor)))).sum() - log_tail)

    from scipy.optimize import brentq

    factor = np.exp(brentq(excess, log_tail - np.log(groups.max()), -np.log(groups.min())))
    return float(log_tail / np.log(rates(factor).mean()))


@dataclass(frozen=True)
class Resamples:
    """Bootstrap resamples of groups.

    Args:
        counts: `[resamples, groups]` int32, the number of times each group was drawn.
        group_of: `[n]` int64, the group of each image.
        redrawn: The number of resamples with a single class that were drawn again.
        level: Confidence level of the intervals, 0 to 1.
    """

    counts: Array
    group_of: Array
    redrawn: int
    level: float

    @property
    def groups(self) -> int:
        """The number of groups."""
        return self.counts.shape[1]

    def value(self, statistic: Statistic) -> Array:
        """Return a statistic of the original images."""
        return statistic(np.ones((1, len(self.group_of))))[0]

    def values(self, statistic: Statistic) -> Array:
        """Return a statistic of every resample, computed in chunks that fit into memory."""
        rows = max(1, MAX_WEIGHTS // max(1, len(self.group_of)))
        chunks = [
            statistic(self.counts[start : start + rows, self.group_of].astype(np.float64))
            for start in range(0, len(self.counts), rows)
        ]
        return np.concatenate(chunks)

    def estimate(
        self,
        statistic: Statistic,
        undefined: str = UNDEFINED,
        *,
        no_interval: str | None = None,
        trials: Trials | None = None,
    ) -> dict[str, Any]:
        """Return a statistic with its interval.

        Args:
            statistic: Returns `[resamples]`.
            undefined: The reason to report if the statistic is NaN.
            no_interval: Why there is no interval. Empty if there is one; None to decide by the number of groups.
            trials: The sample size of a statistic from 0 to 1. None for other statistics.
        """

        def column(weights: Array) -> Array:
            return statistic(weights)[:, None]

        return self.estimate_columns(column, undefined, no_interval=no_interval, trials=[trials])[0]

    def estimate_columns(
        self,
        statistic: Statistic,
        undefined: str,
        *,
        no_interval: str | None = None,
        trials: Sequence[Trials | None] | None = None,
    ) -> list[dict[str, Any]]:
        """Return several statistics with intervals, for a function that returns `[resamples, statistics]`."""
        no_interval = self.no_interval_reason() if no_interval is None else no_interval
        values = self.value(statistic).tolist()
        resampled = np.empty((0, len(values)))
        if not no_interval and not all(np.isnan(values)):
            resampled = self.values(statistic)
        return [
            make_estimate(value, draws, self.level, undefined=undefined, no_interval=no_interval, trials=size)
            for value, draws, size in zip(values, resampled.T, trials or [None] * len(values), strict=True)
        ]

    def no_interval_reason(self, of_part: str = "") -> str:
        """Return why there are too few groups for an interval. Empty if there are enough."""
        return no_interval_reason(self.groups, of_part, unit=self.unit)

    @property
    def unit(self) -> str:
        """The unit of resampling: `image` if no group has several."""
        return "image" if self.groups == len(self.group_of) else "group"

    def count_groups(self, members: Array) -> int:
        """Return the number of groups with at least one of some images: `[n]` bool."""
        return len(np.unique(self.group_of[members]))


def resample(
    units: Sequence[str], labels: Array, *, seed: int, resamples: int, level: float = 0.95,
    domains: Sequence[str] | None = None,
) -> Resamples:  # fmt: skip
    """Draw groups with replacement within each domain (Efron & Tibshirani 1993, chapter 6).

    A resample with a single class is drawn again if the data have more classes.

    Args:
        units: The group of each image. The result does not depend on the order of the images.
        labels: `[n]` int.
        seed: Seed of the random numbers.
        resamples: The number of resamples.
        level: Confidence level of the intervals.
        domains: The domain of each image. None for a single domain.
    """
    names, first, group_of = np.unique(np.asarray(units), return_index=True, return_inverse=True)
    group_domains = np.asarray([""] * len(units) if domains is None else domains)[first]
    strata = [np.flatnonzero(group_domains == domain) for domain in np.unique(group_domains)]
    classes, class_indices = np.unique(labels, return_inverse=True)
    has_class = np.zeros((len(names), len(classes)), bool)
    has_class[group_of, class_indices] = True
    min_classes = min(2, len(classes))
    generator = np.random.default_rng(seed)
    counts = np.zeros((resamples, len(names)), np.int32)
    redrawn = 0
    for row in range(resamples):
        for _ in range(MAX_REDRAWS):
            drawn = [members[generator.integers(len(members), size=len(members))] for members in strata]
            counts[row] = np.bincount(np.concatenate(drawn), minlength=len(names))
            if has_class[counts[row] > 0].any(axis=0).sum() >= min_classes:
                break
            redrawn += 1
    return Resamples(counts, group_of, redrawn, level)


def interval(values: Array, *, level: float) -> tuple[float, float] | None:
    """Return the percentile interval of resampled values.

    Args:
        values: `[resamples]`, NaN if a resample has no value.
        level: Confidence level, 0 to 1.

    Returns:
        (low, high), or None if less than half of the resamples have a value.
    """
    defined = values[np.isfinite(values)]
    if len(defined) < max(1.0, MIN_DEFINED_FRACTION * len(values)):
        return None
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(defined, [tail, 100.0 - tail])
    return float(low), float(high)


def resampling_units(predictions: Predictions) -> list[str]:
    """Return the unit of resampling of each image: its group within its domain, or the image itself.

    Copies of an image, and groups that share an image, are one unit.
    """
    return [
        f"\0c{copy}" if copy else f"{domain}\0{'g' if group else 'p'}{group or path}"
        for group, domain, path, copy in zip(
            predictions.groups, predictions.domains, predictions.paths,
            predictions.copies or repeat("", len(predictions.paths)), strict=True,
        )
    ]  # fmt: skip


def canonical_order(predictions: Predictions, *, labeled: bool = False) -> Predictions:
    """Return all images, or the labeled ones, in an order that does not depend on their order."""
    units = resampling_units(predictions)
    rows = [row for row, label in enumerate(predictions.labels) if label >= 0 or not labeled]
    return predictions.take(sorted(rows, key=lambda row: (units[row], predictions.paths[row])))


def _groups(predictions: Predictions) -> tuple[Array, Array, bool]:
    """Return the first image of each group, the group of each image, and whether all groups have a single class."""
    units = np.asarray(resampling_units(replace(predictions, copies=())))
    _, first, group_of = np.unique(units, return_index=True, return_inverse=True)
    agree = bool((predictions.labels[first][group_of] == predictions.labels).all())
    return first, group_of, agree


def groups_disagree(predictions: Predictions) -> bool:
    """Return whether some group has images of more than one class."""
    return not _groups(predictions)[2]


def group_auc_statistic(predictions: Predictions) -> Statistic:
    """Return the AUC of groups, each with the mean probability of its images, as a function of the weights of images.

    It is NaN if a group has images of more than one class, because the group then has no label.
    """
    first, group_of, agree = _groups(predictions)
    if not agree:
        return lambda weights: np.full(len(weights), np.nan)
    sums = np.zeros((len(first), len(predictions.class_names)))
    np.add.at(sums, group_of, predictions.probabilities)
    means = sums / np.bincount(group_of)[:, None]
    labels = predictions.labels[first]

    def statistic(weights: Array) -> Array:
        # The images of a group are drawn together, so the weight of the first one is that of the group.
        return auc(labels, means, weights[:, first])

    return statistic


@dataclass(frozen=True)
class ResampledPredictions(Resamples):
    """Labeled predictions of one split, or of one domain of it, with resamples of their groups."""

    predictions: Predictions

    def score(self, probabilities: Array, metrics: Mapping[str, Metric]) -> dict[str, Any]:
        """Return metrics with their intervals for other probabilities of the same images."""
        labels = self.predictions.labels
        return {
            name: self.estimate_metric(
                name, partial(metric, labels, probabilities), probabilities, "no images"
            )
            for name, metric in metrics.items()
        }

    def estimate_metric(
        self, name: str, statistic: Statistic, probabilities: Array, undefined: str
    ) -> dict[str, Any]:
        """Return an overall metric of probabilities with its interval."""
        no_interval = self.no_interval_reason()
        if name in LOWER_IS_BETTER and (probabilities.argmax(axis=1) == self.predictions.labels).all():
            no_interval = no_interval or NO_ERROR
        return self.estimate(statistic, undefined, no_interval=no_interval, trials=self.trials(name))

    def trials(self, metric: str) -> Trials | None:
        """Return the sample size of an overall metric. None for a metric that is not from 0 to 1."""
        labels, num_classes = self.predictions.labels, len(self.predictions.class_names)
        if metric == "accuracy":
            return Trials(self.groups, len(labels))
        if metric in LOWER_IS_BETTER:
            return None
        groups = np.array([self.count_groups(labels == label) for label in np.unique(labels)])
        if metric not in ("auc", GROUP_AUC):
            return Trials(mean_trials(groups, level=self.level))
        # Each positive group can be paired with a negative one of its own: the pairs are independent trials.
        pairs = np.minimum(groups, [self.count_groups(labels != label) for label in np.unique(labels)])
        return Trials(
            pairs.min() if num_classes == 2 else mean_trials(np.maximum(pairs, 1), level=self.level) / 2
        )


def resample_predictions(
    predictions: Predictions, *, seed: int, resamples: int, level: float
) -> ResampledPredictions:
    """Return labeled predictions with resamples of their groups within each domain."""
    units, domains = resampling_units(predictions), predictions.domains
    drawn = resample(units, predictions.labels, seed=seed, resamples=resamples, level=level, domains=domains)
    return ResampledPredictions(**vars(drawn), predictions=predictions)


def no_interval_reason(groups: int, of_part: str = "", *, unit: str = "group") -> str:
    """Return why there is no interval for this number of groups of a part of the images. Empty if there is one."""
    if groups >= MIN_GROUPS:
        return ""
    return f"no interval: {pluralize(groups, unit)}{of_part} (at least {MIN_GROUPS} are needed)"


def no_value(reason: str) -> dict[str, Any]:
    """Return an estimate without a value."""
    return without_interval(None, reason)


def without_interval(value: float | None, reason: str) -> dict[str, Any]:
    """Return an estimate without an interval."""
    return {"value": value, "low": None, "high": None, "reason": reason}


def counted(value: float) -> dict[str, Any]:
    """Return the estimate for an exact count, which has no interval."""
    return without_interval(value, "exact count")


def make_estimate(
    value: float,
    resampled: Array,
    level: float,
    *,
    undefined: str,
    no_interval: str,
    trials: Trials | None = None,
) -> dict[str, Any]:
    """Return an estimate with the interval of its resampled values, or the reason why either is missing."""
    if np.isnan(value):
        return no_value(undefined)
    if no_interval:
        return without_interval(value, no_interval)
    limits = trials.interval(value, resampled, level) if trials else interval(resampled, level=level)
    if limits is None:
        return without_interval(value, UNDEFINED)
    if limits[1] - limits[0] <= ROUNDING * max(1.0, abs(value)):
        return without_interval(value, CONSTANT)
    # The resamples of a biased statistic, like the ECE, can all be on one side of its value.
    return {"value": value, "low": min(limits[0], value), "high": max(limits[1], value)}


GROUP_AUC = "group_auc"
LOWER_IS_BETTER = ("log_loss", "ece", "brier")


def overall_statistics(predictions: Predictions) -> dict[str, Statistic]:
    """Return every overall metric by name, as a function of the weights of the images."""
    statistics: dict[str, Statistic] = {
        name: partial(metric, predictions.labels, predictions.probabilities)
        for name, metric in OVERALL.items()
    }
    if any(predictions.groups):
        statistics[GROUP_AUC] = group_auc_statistic(predictions)
    return statistics


def undefined_reason(predictions: Predictions, metric: str) -> str:
    """Return why an overall metric is undefined."""
    if metric == GROUP_AUC and groups_disagree(predictions):
        return "a group has images of more than one class"
    present = set(predictions.labels.tolist())
    absent = [name for index, name in enumerate(predictions.class_names) if index not in present]
    return f"no image of {', '.join(absent[:5])}" if absent else "no images"


@checked
def paired_difference(
    first: Predictions,
    second: Predictions,
    *,
    metric: str = "auc",
    split: str | None = None,
    seed: Seed = 0,
    resamples: Resamplings = 1000,
    level: Rate = 0.95,
) -> dict[str, Any]:
    """Return the metric of `second` minus that of `first`, resampled together.

    Args:
        first, second: Predictions of two models for the same images, in any order. Unlabeled images are ignored.
        metric: `group_auc` or another overall metric of `score`.
        split: The split to compare, for example `test`. None is allowed if all labeled images are in one split.
        seed, resamples, level: Settings of the bootstrap.

    Returns:
        `{"value", "low", "high", "outcome", "redrawn"}`. The outcome is `better` (the second model) or `worse` if the
        interval excludes zero, else `cannot_tell`. Without an interval, it is `cannot_tell` with a `"reason"` instead of
        `"redrawn"`, the number of resamples with a single class that were drawn again.

    Raises:
        RequestError: If the images, their labels or the classes differ, if the metric is unknown, or if there are
            several splits and none is chosen.
    """
    first, second = (_one_split(predictions, split) for predictions in (first, second))
    _check_same_images(first, second)
    before, after = overall_statistics(first), overall_statistics(second)
    if metric not in before:
        raise RequestError(f"Unknown metric '{metric}'. Available: {', '.join(before)}.")
    part = resample_predictions(first, seed=seed, resamples=resamples, level=level)
    undefined = undefined_reason(first, metric)
    return estimate_difference(part, before[metric], after[metric], metric, undefined)


def estimate_difference(
    part: ResampledPredictions, before: Statistic, after: Statistic, metric: str, undefined: str = "no images"
) -> dict[str, Any]:
    """Return the difference of a metric between two sets of predictions, as `paired_difference` does.

    Args:
        part: The images.
        before, after: The metric for each set of predictions.
        metric: Name of the metric, which determines whether lower is better.
        undefined: The reason to report if it is undefined.
    """
    estimate = part.estimate(lambda weights: after(weights) - before(weights), undefined)
    trials = part.trials(metric)
    if trials is not None and estimate["value"] is not None and not part.no_interval_reason():
        estimate = _difference_at_the_limits((before, after), part, trials) or estimate
    low, high = estimate["low"], estimate["high"]
    if low is None:
        return estimate | {"outcome": "cannot_tell"}
    outcome = "better" if (low > 0) != (metric in LOWER_IS_BETTER) else "worse"
    if low <= 0 <= high:
        outcome = "cannot_tell"
    return estimate | {"outcome": outcome, "redrawn": part.redrawn}


def _difference_at_the_limits(
    statistics: Sequence[Statistic], part: Resamples, trials: Trials
) -> dict[str, Any]:
    """Return a difference with its interval from those of its metrics. Empty if neither metric is close to 0 or 1.

    Reference:
        Zou & Donner 2008, doi:10.1002/sim.3095, for correlated estimates.
    """
    first, second = (float(part.value(statistic)) for statistic in statistics)
    resampled = [part.values(statistic) for statistic in statistics]
    percentiles = [interval(values, level=part.level) for values in resampled]
    if None in percentiles or not any(is_extreme(limits) for limits in percentiles if limits):
        return {}
    limits = [trials.interval(*pair, part.level) for pair in zip((first, second), resampled, strict=True)]
    (first_low, first_high), (second_low, second_high) = (pair for pair in limits if pair)
    defined = np.isfinite(resampled).all(axis=0)
    deviations = [values[defined] - values[defined].mean() for values in resampled]
    lengths = float(np.linalg.norm(deviations[0]) * np.linalg.norm(deviations[1]))
    correlation = float(deviations[0] @ deviations[1]) / lengths if lengths > ROUNDING else 0.0

    def distance(x: float, y: float) -> float:
        return math.sqrt(max(0.0, x**2 + y**2 - 2 * correlation * x * y))

    value = second - first
    low = value - distance(second - second_low, first_high - first)
    high = value + distance(second_high - second, first - first_low)
    return {"value": value, "low": max(-1.0, low), "high": min(1.0, high)}


def _one_split(predictions: Predictions, split: str | None) -> Predictions:
    """Return the labeled images of one split in a canonical order."""
    labeled = canonical_order(predictions, labeled=True)
    splits = sorted(set(labeled.splits))
    chosen = split if split is not None or len(splits) != 1 else splits[0]
    if chosen not in splits:
        known = ", ".join(map(repr, splits)) or "none"
        raise RequestError(f"split must be one of the splits with labeled images, {known}, got {split!r}.")
    return labeled.of(chosen)


def _check_same_images(first: Predictions, second: Predictions) -> None:
    if first.class_names != second.class_names:
        raise RequestError(
            f"The two models have different classes: {list(first.class_names)} and {list(second.class_names)}. "
            "Compare models with the same classes in the same order."
        )
    same_images = first.paths == second.paths and resampling_units(first) == resampling_units(second)
    if not same_images or not np.array_equal(first.labels, second.labels):
        raise RequestError(
            "The two models were evaluated on different images. Compare models on the same test images."
        )


def round_numbers(value: Any) -> Any:
    """Return nested dictionaries and lists with numbers rounded to 9 significant digits, for JSON."""
    if isinstance(value, Mapping):
        return {str(name): round_numbers(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [round_numbers(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    return value


@contextmanager
def single_threaded() -> Iterator[None]:
    """Limit NumPy, SciPy and scikit-learn to one thread within the context. TensorFlow is not affected.

    On two busy cores, model selection then takes a seventh of the time (21 s instead of 152 s), because the threads of
    k-means wait for each other. The last digits of results do not depend on the number of cores.
    """
    import sklearn.cluster  # noqa: F401 - libraries that are not loaded yet would not be limited
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield

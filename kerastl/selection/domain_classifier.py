"""A logistic regression that tells one site's features from another's."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerastl.errors import RequestError
from kerastl.evaluation.bootstrap import Statistic, with_interval, no_value, resample, without_interval, no_interval_reason
from kerastl.evaluation.metrics import binary_auc

Array = np.ndarray[Any, Any]

COMPONENTS = 64
"""Principal components that it sees at most: few images fill no more, and a shift of scanner moves the widest ones."""
MOST_STEPS = 1000
SMALLEST_SPREAD = 1e-6
"""Features that vary less than this share of the widest one are constant but for rounding."""


@dataclass(frozen=True)
class DomainClassifier:
    """A fitted classifier.

    Args:
        mean, spread: `[width]` float64, what features are standardized by; constant features count nothing.
        axes: `[width, components]` float64.
        weights: `[components]` float64.
        bias: float.
    """

    mean: Array
    spread: Array
    axes: Array
    weights: Array
    bias: float

    def log_odds(self, features: Array) -> Array:
        """Return `[n]` float64: log of p(second site) / p(first site)."""
        scores: Array = ((features - self.mean) / self.spread) @ self.axes @ self.weights
        return scores + self.bias


def fit_domain_classifier(
    features: Array,
    is_second: Array,
    *,
    inverse_penalty: float,
    weights: Array | None = None,
    balanced: bool = False,
) -> DomainClassifier:
    """Fit a logistic regression with L2 penalty on the standardized principal components.

    Args:
        features: `[n, width]` float.
        is_second: `[n]` int, 0 or 1; both are there.
        inverse_penalty: scikit-learn's C; features have variance 1 in total.
        weights: `[n]`, how much each image counts; None: alike.
        balanced: whether both sites count alike, however many images each has.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    values = features.astype(np.float64)
    mean, spread = values.mean(axis=0), values.std(axis=0)
    constant = spread <= SMALLEST_SPREAD * max(float(spread.max()), 1e-12)
    spread = np.where(constant, np.inf, spread * np.sqrt(values.shape[1]))
    scaled = (values - mean) / spread
    axes = _principal_axes(scaled)
    model = LogisticRegression(
        C=inverse_penalty, class_weight="balanced" if balanced else None, max_iter=MOST_STEPS
    )
    with warnings.catch_warnings():
        # The last digits do not matter to who comes before whom.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(scaled @ axes, is_second, sample_weight=weights)
    return DomainClassifier(mean, spread, axes, model.coef_[0], float(model.intercept_[0]))


def _principal_axes(scaled: Array) -> Array:
    """Return `[width, components]`, from the smaller one of the two Gram matrices; signs do not matter to the fit."""
    rows, width = scaled.shape
    components = min(COMPONENTS, rows - 1, width)
    if width <= rows:
        return np.linalg.eigh(scaled.T @ scaled)[1][:, ::-1][:, :components]
    _, vectors = np.linalg.eigh(scaled @ scaled.T)
    axes = scaled.T @ vectors[:, ::-1][:, :components]
    lengths = np.linalg.norm(axes, axis=0)
    found: Array = axes / np.where(lengths > 0, lengths, 1.0)
    return found


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


def auc_within(folds: Sequence[tuple[Array, Array]], positive: Array, scores: Array, base: Array) -> Statistic:
    """Return the AUC over pairs of one fold, as a function of the images' weights.

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


INVERSE_PENALTY = 30.0
"""scikit-learn's C, on features with variance 1 in total."""

TRACE = 1e-3
"""The least weight of an image: where a class is taken for absent there might be none left to compare with."""


def weighed(labels: Array, shares: Sequence[float] | Array, wanted: Sequence[float] | Array) -> Array:
    """Return `[n]` weights with which images of these labels have other shares of the classes.

    Args:
        labels: `[n]` int, places of classes.
        shares: `[classes]`, how common each class is among them, none 0.
        wanted: `[classes]`, how common it is to be.
    """
    weights: Array = np.maximum(np.asarray(wanted) / np.asarray(shares), TRACE)[labels]
    return weights


def tell_apart(
    features_a: Array,
    features_b: Array,
    groups_a: Sequence[str] | None = None,
    groups_b: Sequence[str] | None = None,
    *,
    weights_a: Array | None = None,
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
) -> dict[str, Any]:
    """Return the AUC of a domain classifier that is cross-validated by group: 0.5 cannot tell, 1 always can.

    Use images on which the model did not learn, of both sites: a model knows what it learnt from, and a classifier
    tells such images from new ones of the very same scanner.

    Args:
        features_a: `[n, width]` float.
        features_b: `[m, width]` float.
        groups_a, groups_b: patients; None: each image is by itself.
        weights_a: `[n]`, how much each image of the first site counts; None: alike.
        seed: of folds and resamples.
        resamples, level: of the bootstrap, which draws whole groups within each site; classifiers are not fitted anew; see
            `folds.widened` for what that lacks.

    Returns:
        `{value, low, high}` and, where one of them is None, `reason`.

    Raises:
        RequestError: features are not equally wide, or groups do not fit.

    Reference:
        The domain classifier of Ben-David et al. 2010, doi:10.1007/s10994-009-5152-4, section 4 (proxy A-distance
        2 (1 - 2 error)), told as an AUC; intervals as Efron & Tibshirani 1993, chapter 6.
    """
    if features_a.ndim != 2 or features_b.ndim != 2 or features_a.shape[1] != features_b.shape[1]:
        raise RequestError(
            f"Features must be [images, width] of one width, got {features_a.shape} and {features_b.shape}."
        )
    units = _units("a", len(features_a), groups_a) + _units("b", len(features_b), groups_b)
    features = np.concatenate([features_a, features_b])
    site = np.repeat([0, 1], [len(features_a), len(features_b)])
    base = np.ones(len(site))
    if weights_a is not None:
        base[: len(features_a)] = weights_a
    folds = group_folds(site, units, seed)
    if not folds:
        return no_value("a site with one patient cannot be held out")

    def judge(learnt: Array, held_out: Array) -> Array:
        classifier = fit_domain_classifier(
            features[learnt], site[learnt],
            inverse_penalty=INVERSE_PENALTY, weights=base[learnt], balanced=True,
        )  # fmt: skip
        return classifier.log_odds(features[held_out])

    scores = cross_fitted(folds, judge, len(site))
    figure = auc_within(folds, site == 1, scores, base)
    return _with_interval(figure, units, site, seed, resamples, level)


def _with_interval(
    figure: Any, units: list[str], site: Array, seed: int, resamples: int, level: float
) -> dict[str, Any]:
    apart = [f"{place}\0{unit}" for place, unit in zip(site, units, strict=True)]
    drawn = resample(apart, [str(place) for place in site], site, seed=seed, resamples=resamples)
    value = float(drawn.value(figure))
    fewest = min(len({unit for unit, at in zip(units, site, strict=True) if at == a}) for a in (0, 1))
    if reason := no_interval_reason(fewest, " at one site"):
        return without_interval(value, reason)
    return widened(with_interval(value, drawn.values(figure), level))


def _units(site: str, count: int, groups: Sequence[str] | None) -> list[str]:
    """Return the group of each image; a patient who was at both sites is held out at both."""
    if groups is None:
        return [f"\0{site}{row}" for row in range(count)]
    if len(groups) != count:
        raise RequestError(f"{len(groups)} groups do not fit {count} rows of features.")
    return [group or f"\0{site}{row}" for row, group in enumerate(groups)]


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

    Where the sites differ in how common a disease is, and images tell the site (`tell_apart`), a model of both sites has a
    shortcut: it scores high on images of these sites and fails at a third.

    Args:
        sites: of each image, at least two.
        labels: `[n]` int.
        groups: patients; None: each image is by itself.
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
        raise RequestError("Sites, labels and groups must have one entry an image each.")
    if len(names) < 2 or len(classes) < 2:
        raise RequestError(f"Two sites and two classes are needed, got {len(names)} and {len(classes)}.")
    given = [""] * len(sites) if groups is None else groups
    units = [group or f"\0{row}" for row, group in enumerate(given)]
    folds = group_folds(label, units, seed)
    if not folds:
        return no_value("a class with one patient cannot be held out") | {"shortcut": None}
    columns = [1] if len(classes) == 2 else list(range(len(classes)))
    figures = [_figure(folds, place, label == column) for column in columns]

    def mean(weights: Array) -> Array:
        values: Array = np.mean([figure(weights) for figure in figures], axis=0)
        return values

    apart = [f"{at}\0{unit}" for at, unit in zip(place, units, strict=True)]
    drawn = resample(apart, [str(at) for at in place], label, seed=seed, resamples=resamples)
    value = float(drawn.value(mean))
    if reason := no_interval_reason(len(set(units))):
        return without_interval(value, reason) | {"shortcut": None}
    found = widened(with_interval(value, drawn.values(mean), level))
    return found | {"shortcut": above_chance(found)}


def _figure(folds: list[tuple[Array, Array]], place: Array, positive: Array) -> Any:
    """Score each image by how common the class is at its site, among patients of the other folds."""
    scores = np.zeros(len(place))
    for learnt, held_out in folds:
        of_site = np.bincount(place[learnt], minlength=place.max() + 1)
        found = np.bincount(place[learnt][positive[learnt]], minlength=place.max() + 1)
        # One image of each kind more, so that a site that a fold does not know counts as even.
        scores[held_out] = ((found + 1) / (of_site + 2))[place[held_out]]
    return auc_within(folds, positive, scores, np.ones(len(place)))


WIDEST = 32
"""Principal components that the covariance within classes is estimated in."""
IMAGES_A_COMPONENT = 4
BEYOND_CLASSES = 8
"""Directions besides those between classes: a class that nobody knows lies in one of them, or between the known ones."""


@dataclass(frozen=True)
class ClassSpace:
    """Images of source and target in one space.

    Args:
        source: `[n, directions]` float64; covariance 1 within classes, about.
        target: `[m, directions]` float64.
        labels: `[n]` int.
    """

    source: Array
    target: Array
    labels: Array

    def class_means(self, weights: Array) -> Array:
        """Return `[classes, directions]` of the source; `weights` `[n]` is how often each image counts."""
        classes = self.labels.max() + 1
        member = (self.labels[:, None] == np.arange(classes)) * weights[:, None]
        means: Array = (member.T @ self.source) / member.sum(axis=0)[:, None]
        return means


def class_space(source: Array, labels: Array, target: Array) -> ClassSpace:
    """Return images in whitened principal components, turned so that the differences of class means come first.

    Args:
        source: `[n, width]` float32, features of labelled images.
        labels: `[n]` int, each class at least once.
        target: `[m, width]` float32.

    Reference:
        Lee et al. 2018, arXiv:1807.03888, equation 1 (one covariance within classes), shrunk as Ledoit & Wolf 2004.
    """
    from sklearn.covariance import ledoit_wolf

    # Not standardized: a feature that the source hardly ever shows would blow up whatever the target does with it.
    middle = source.mean(axis=0, dtype=np.float64)
    near, far = source - middle, target - middle
    room = max(2, (len(source) - labels.max() - 1) // IMAGES_A_COMPONENT)
    axes = _axes(np.concatenate([near, far - far.mean(axis=0)]), min(WIDEST, room))
    near, far = near @ axes, far @ axes
    counts = np.bincount(labels)
    means = (np.eye(len(counts))[labels].T @ near) / counts[:, None]
    covariance, _ = ledoit_wolf(near - means[labels], assume_centered=True)
    values, vectors = np.linalg.eigh(covariance)
    whiten = vectors / np.sqrt(np.maximum(values, 1e-12 * values.max()))
    near, far, means = near @ whiten, far @ whiten, means @ whiten
    between = _axes(means - means.mean(axis=0), len(means) - 1)
    rest = far - far.mean(axis=0)
    beyond = _axes(rest - (rest @ between) @ between.T, BEYOND_CLASSES)
    # Where directions between classes fill the space nothing is left beyond them but rounding.
    beyond = beyond[:, : near.shape[1] - between.shape[1]]
    basis = np.linalg.qr(np.concatenate([between, beyond], axis=1))[0]
    return ClassSpace(near @ basis, far @ basis, labels)


def _axes(rows: Array, count: int) -> Array:
    """Return the `[width, count]` directions in which rows spread most around zero, fewer where they fill fewer."""
    _, values, directions = np.linalg.svd(rows, full_matrices=False)
    filled = int((values > 1e-9 * values.max()).sum())
    axes: Array = directions[: min(count, max(1, filled))].T
    return axes

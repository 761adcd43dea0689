"""Domain classifiers: the AUC of the domain given the features, and of the label given the site."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kerastl.errors import RequestError
from kerastl.evaluation.bootstrap import Statistic, Trials, no_interval_reason, no_value, resample
from kerastl.evaluation.metrics import Array, binary_auc, ratio

Folds = Sequence[tuple[Array, Array]]
"""(training rows, held-out rows) of each fold."""

MAX_COMPONENTS = 64
"""Principal components of the classifier: a scanner shift moves the ones with the most variance."""
MAX_ITERATIONS = 1000
MIN_RELATIVE_STD = 1e-6
"""Features whose standard deviation is a smaller fraction of the largest one are constant up to rounding."""
INVERSE_PENALTY = 30.0
"""scikit-learn's C, for features with a total variance of 1."""
NUM_FOLDS = 5
INTERVAL_FACTOR = 2**0.5
MIN_WEIGHT = 1e-3
"""Smallest weight of an image. If a class is estimated to be absent, some images must be left to compare."""


def fit_domain_classifier(
    features: Array,
    is_second: Array,
    *,
    inverse_penalty: float,
    weights: Array | None = None,
    balanced: bool = False,
) -> Callable[[Array], Array]:
    """Fit a logistic regression with L2 penalty on standardized principal components.

    Args:
        features: `[n, width]` float.
        is_second: `[n]` int, 0 or 1; both must occur.
        inverse_penalty: scikit-learn's C; features have a total variance of 1.
        weights: `[n]`, sample weights; None for equal weights.
        balanced: Whether both domains have the same total weight, regardless of their number of images.

    Returns:
        A function of features `[n, width]`: `[n]` float64, log of p(second domain) / p(first domain).
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    values = features.astype(np.float64)
    mean, std = values.mean(axis=0), values.std(axis=0)
    is_constant = std <= MIN_RELATIVE_STD * max(float(std.max()), 1e-12)
    std = np.where(is_constant, np.inf, std * np.sqrt(values.shape[1]))
    scaled = (values - mean) / std
    axes = _principal_axes(scaled)
    model = LogisticRegression(
        C=inverse_penalty, class_weight="balanced" if balanced else None, max_iter=MAX_ITERATIONS
    )
    with warnings.catch_warnings():
        # The last digits do not change the order of the images.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(scaled @ axes, is_second, sample_weight=weights)
    coefficients, bias = model.coef_[0], float(model.intercept_[0])
    return lambda features: ((features - mean) / std) @ axes @ coefficients + bias


def _principal_axes(scaled: Array) -> Array:
    """Return `[width, components]` from the smaller Gram matrix; signs do not matter for the fit."""
    rows, width = scaled.shape
    components = min(MAX_COMPONENTS, rows - 1, width)
    if width <= rows:
        return np.linalg.eigh(scaled.T @ scaled)[1][:, ::-1][:, :components]
    _, vectors = np.linalg.eigh(scaled @ scaled.T)
    axes = scaled.T @ vectors[:, ::-1][:, :components]
    lengths = np.linalg.norm(axes, axis=0)
    return axes / np.where(lengths > 0, lengths, 1.0)


def group_folds(labels: Array, units: Sequence[str], seed: int) -> Folds:
    """Return stratified folds that hold out whole groups; no folds if a label has a single group.

    Args:
        labels: `[n]` int, distributed equally over the folds.
        units: The group of each row.
        seed: Seed of the folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    # Number groups by appearance, not by name, so that renaming patients does not change the folds.
    numbers = {unit: number for number, unit in enumerate(dict.fromkeys(units))}
    groups = np.array([numbers[unit] for unit in units])
    fewest = min(len(np.unique(groups[labels == label])) for label in np.unique(labels))
    if fewest < 2:
        return []
    splitter = StratifiedGroupKFold(min(NUM_FOLDS, fewest), shuffle=True, random_state=seed)
    return list(splitter.split(labels[:, None], labels, groups))


def within_fold_auc(folds: Folds, is_positive: Array, scores: Array, base_weights: Array) -> Statistic:
    """Return the AUC over pairs within a fold, as a function of the images' weights.

    Scores of different folds come from different classifiers. Comparing these gives values below 0.5 if there
    is no difference: a fold with more positives than average is scored by a classifier that saw fewer.

    Args:
        folds: Folds whose held-out rows were scored.
        is_positive: `[n]` bool.
        scores: `[n]`.
        base_weights: `[n]`, multiplied with the weights.
    """

    def auc(weights: Array) -> Array:
        won, total = np.zeros(len(weights)), np.zeros(len(weights))
        for _, rows in folds:
            fold_weights = weights[:, rows] * base_weights[rows]
            positive = is_positive[rows]
            pairs = fold_weights[:, positive].sum(axis=1) * fold_weights[:, ~positive].sum(axis=1)
            fold_auc = binary_auc(positive, scores[rows], fold_weights)
            won += np.where(pairs > 0, pairs * np.nan_to_num(fold_auc), 0.0)
            total += pairs
        return ratio(won, total)

    return auc


def is_above_chance(auc: Mapping[str, Any]) -> bool | None:
    """Return whether the interval of an AUC is above 0.5; None if there is no interval.

    Args:
        auc: `{value, low, high}`; `low` is None if there is no interval.
    """
    return None if auc["low"] is None else bool(auc["low"] > 0.5)


def prevalence_weights(
    labels: Array, prevalence: Sequence[float] | Array, new_prevalence: Sequence[float] | Array
) -> Array:
    """Return `[n]` weights that give images another prevalence.

    Args:
        labels: `[n]` int class indices.
        prevalence: `[classes]`, fraction of each class among the images, above 0.
        new_prevalence: `[classes]`, fraction of each class after weighting.
    """
    return np.maximum(np.asarray(new_prevalence) / np.asarray(prevalence), MIN_WEIGHT)[labels]


def domain_auc(
    features_a: Array, features_b: Array,
    groups_a: Sequence[str] | None = None, groups_b: Sequence[str] | None = None, *,
    weights_a: Array | None = None, seed: int = 0, resamples: int = 1000, level: float = 0.95,
) -> dict[str, Any]:  # fmt: skip
    """Return the AUC of a domain classifier, cross-validated by group: 0.5 is chance, 1 is perfect separation.

    Use images that the model was not trained on, from both domains. A classifier distinguishes training
    images from new images of the same scanner.

    Args:
        features_a: `[n, width]` float.
        features_b: `[m, width]` float.
        groups_a, groups_b: Patients; None if every image is its own group.
        weights_a: `[n]`, weights of the images of the first domain; None for equal weights.
        seed: Seed of folds and resamples.
        resamples, level: Settings of the bootstrap, which draws whole groups within each domain and does not
            refit the classifiers. The interval is widened by sqrt(2), because the folds are not independent.

    Returns:
        `{value, low, high}`, and `reason` if one of them is None.

    Raises:
        RequestError: The widths of the features differ, or the number of groups is wrong.

    Reference:
        The domain classifier of Ben-David et al. 2010, doi:10.1007/s10994-009-5152-4, section 4 (proxy
        A-distance 2 (1 - 2 error)), expressed as an AUC; intervals as in Efron & Tibshirani 1993, chapter 6.
    """
    if not features_a.ndim == features_b.ndim == 2 or features_a.shape[1] != features_b.shape[1]:
        raise RequestError(
            f"Features must be [images, width] with the same width, got {features_a.shape} and {features_b.shape}."
        )
    units_a, units_b = _units("a", len(features_a), groups_a), _units("b", len(features_b), groups_b)
    units = units_a + units_b
    features = np.concatenate([features_a, features_b])
    domain = np.repeat([0, 1], [len(features_a), len(features_b)])
    weights_a = np.ones(len(features_a)) if weights_a is None else weights_a
    base_weights = np.concatenate([weights_a, np.ones(len(features_b))])
    folds = group_folds(domain, units, seed)
    if not folds:
        return no_value("a domain with a single patient cannot be held out")

    scores = np.zeros(len(domain))
    for train, held_out in folds:
        log_odds = fit_domain_classifier(
            features[train], domain[train],
            inverse_penalty=INVERSE_PENALTY, weights=base_weights[train], balanced=True,
        )  # fmt: skip
        scores[held_out] = log_odds(features[held_out])
    auc = within_fold_auc(folds, domain == 1, scores, base_weights)
    no_interval = no_interval_reason(min(len(set(units_a)), len(set(units_b))), " at one site")
    return _estimate(auc, domain, units, domain, no_interval, seed=seed, resamples=resamples, level=level)


def _estimate(
    auc: Statistic, domain: Array, units: Sequence[str], labels: Array, no_interval: str, *,
    seed: int, resamples: int, level: float,
) -> dict[str, Any]:  # fmt: skip
    """Return a cross-validated AUC with its bootstrap interval sqrt(2) times as wide, clipped to 0 to 1.

    Groups are resampled within each domain. A group in two domains counts as two.

    The bootstrap treats folds as independent, but without a difference between the domains, what fold f gains
    from the classifier that saw fold g, fold g gains from the one that saw f. The variance is therefore twice
    that of the bootstrap. Without this correction, the interval of 95% is above 0.5 for 8% of equal domains
    instead of 2.5%.
    """
    names = [str(number) for number in domain]
    groups = [f"{name}\0{unit}" for name, unit in zip(names, units, strict=True)]
    drawn = resample(groups, labels, seed=seed, resamples=resamples, level=level, domains=names)
    # The percentile interval of perfect separation is a single point.
    is_perfect = float(drawn.value(auc)) in (0.0, 1.0)
    pairs = min(drawn.count_groups(labels == label) for label in np.unique(labels))
    estimate = drawn.estimate(auc, no_interval=no_interval, trials=Trials(pairs) if is_perfect else None)
    if estimate["low"] is None:
        return estimate
    value = estimate["value"]
    low = value - INTERVAL_FACTOR * (value - estimate["low"])
    high = value + INTERVAL_FACTOR * (estimate["high"] - value)
    return estimate | {"low": max(0.0, low), "high": min(1.0, high)}


def _units(domain: str, count: int, groups: Sequence[str] | None) -> list[str]:
    """Return the group of each image; a patient in both domains is held out in both."""
    groups = [""] * count if groups is None else groups
    if len(groups) != count:
        raise RequestError(f"There are {len(groups)} groups for {count} rows of features.")
    return [group or f"\0{domain}{row}" for row, group in enumerate(groups)]


def site_label_auc(
    sites: Sequence[str],
    labels: Array,
    groups: Sequence[str] | None = None,
    *,
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
) -> dict[str, Any]:
    """Return the AUC of the label predicted from the site alone, cross-validated by group.

    If the prevalence of a disease differs between sites, and images reveal the site (`domain_auc`), a model
    of these sites has a shortcut: it has a high score on images of these sites and fails at another one.

    Args:
        sites: The site of each image, at least two.
        labels: `[n]` int class indices.
        groups: Patients; None if every image is its own group.
        seed: Seed of folds and resamples.
        resamples, level: Settings of the bootstrap, which draws whole groups within each site.

    Returns:
        `{value, low, high}`, the mean one-vs-rest AUC for more than two classes, `reason` if one of them is
        None, and `shortcut`: whether the interval is above 0.5, None if there is no interval.

    Raises:
        RequestError: The lengths differ, or there is a single site or class.

    Reference:
        Zech et al. 2018, doi:10.1371/journal.pmed.1002683 (sorting radiographs by the prevalence of their
        hospital alone).
    """
    site_names, site = np.unique(np.asarray(sites), return_inverse=True)
    classes, label = np.unique(labels, return_inverse=True)
    if not len(sites) == len(labels) == len(sites if groups is None else groups):
        raise RequestError("Sites, labels and groups must have one entry per image.")
    if len(site_names) < 2 or len(classes) < 2:
        raise RequestError(
            f"At least two sites and two classes are needed, got {len(site_names)} and {len(classes)}."
        )
    units = _units("", len(sites), groups)
    folds = group_folds(label, units, seed)
    if not folds:
        return no_value("a class with a single patient cannot be held out") | {"shortcut": None}
    columns = [1] if len(classes) == 2 else list(range(len(classes)))
    statistics = [_site_statistic(folds, site, label == column) for column in columns]

    def mean_auc(weights: Array) -> Array:
        return np.mean([statistic(weights) for statistic in statistics], axis=0)

    no_interval = no_interval_reason(len(set(units)))
    estimate = _estimate(
        mean_auc, site, units, label, no_interval, seed=seed, resamples=resamples, level=level
    )
    return estimate | {"shortcut": is_above_chance(estimate)}


def _site_statistic(folds: Folds, site: Array, is_positive: Array) -> Statistic:
    """Score each image by the prevalence of the class at its site, among patients of the other folds."""
    scores = np.zeros(len(site))
    for train, held_out in folds:
        images = np.bincount(site[train], minlength=site.max() + 1)
        positives = np.bincount(site[train][is_positive[train]], minlength=site.max() + 1)
        # Add one image of each kind, so that a site that is missing in a fold counts as even.
        scores[held_out] = ((positives + 1) / (images + 2))[site[held_out]]
    return within_fold_auc(folds, is_positive, scores, np.ones(len(site)))

"""Open-set detection: a part of the target that is far from every class, wherever a shift moved them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from kerastl.errors import pluralize
from kerastl.evaluation.bootstrap import MIN_GROUPS, resample
from kerastl.selection.evidence import Array, Outputs

MAX_COMPONENTS = 32
"""Principal components in which the within-class covariance is estimated."""
MIN_IMAGES_PER_COMPONENT = 4
EXTRA_DIRECTIONS = 8
"""Directions in addition to those between classes, in which an unknown class can be."""


@dataclass(frozen=True)
class ClassSpace:
    """Source and target images in one space, whose first `classes - 1` directions separate the class means.

    Args:
        source: `[n, directions]` float64; the within-class covariance is about 1.
        target: `[m, directions]` float64.
        labels: `[n]` int.
    """

    source: Array
    target: Array
    labels: Array

    @cached_property
    def starts(self) -> list[ShiftedMixture]:
        """Two initial mixtures of the classes on the target, see `initial_mixtures`."""
        means = class_means(self.source, self.labels, np.ones(len(self.source)))
        return initial_mixtures(means, np.bincount(self.labels) / len(self.labels), self.target)

    @cached_property
    def mixture(self) -> ShiftedMixture:
        """The most likely mixture of the classes on the target, without an extra component."""
        return fit_shifted_mixture(self.target, self.starts, np.ones(len(self.target)))


def class_means(images: Array, labels: Array, weights: Array) -> Array:
    """Return `[classes, width]` of images `[n, width]` with image weights `[n]`."""
    member = (labels[:, None] == np.arange(labels.max() + 1)) * weights[:, None]
    return (member.T @ images) / member.sum(axis=0)[:, None]


def class_space(source: Array, labels: Array, target: Array) -> ClassSpace:
    """Project images to whitened principal components, with differences of class means first.

    Args:
        source: `[n, width]` float32, features of labeled images.
        labels: `[n]` int, each class at least once.
        target: `[m, width]` float32.

    Reference:
        Lee et al. 2018, arXiv:1807.03888, equation 1 (one within-class covariance), with shrinkage of Ledoit
        & Wolf 2004.
    """
    from sklearn.covariance import ledoit_wolf

    # Features are not standardized: one that hardly varies on the source would dominate the target.
    center = source.mean(axis=0, dtype=np.float64)
    source, target = source - center, target - center
    components = max(2, (len(source) - labels.max() - 1) // MIN_IMAGES_PER_COMPONENT)
    axes = _axes(np.concatenate([source, target - target.mean(axis=0)]), min(MAX_COMPONENTS, components))
    source, target = source @ axes, target @ axes
    means = class_means(source, labels, np.ones(len(labels)))
    covariance, _ = ledoit_wolf(source - means[labels], assume_centered=True)
    values, vectors = np.linalg.eigh(covariance)
    whiten = vectors / np.sqrt(np.maximum(values, 1e-12 * values.max()))
    source, target, means = source @ whiten, target @ whiten, means @ whiten
    between = _axes(means - means.mean(axis=0), len(means) - 1)
    centered = target - target.mean(axis=0)
    extra = _axes(centered - (centered @ between) @ between.T, EXTRA_DIRECTIONS)
    # If the directions between classes fill the space, the rest is rounding.
    extra = extra[:, : source.shape[1] - between.shape[1]]
    basis = np.linalg.qr(np.concatenate([between, extra], axis=1))[0]
    return ClassSpace(source @ basis, target @ basis, labels)


def _axes(rows: Array, count: int) -> Array:
    """Return the `[width, count]` directions of the largest spread around zero; fewer if the rank is lower."""
    _, values, directions = np.linalg.svd(rows, full_matrices=False)
    matrix_rank = int((values > 1e-9 * values.max()).sum())
    return directions[: min(count, max(1, matrix_rank))].T


MAX_ITERATIONS = 100
TOLERANCE = 1e-6
SCALE_RANGE = (0.3, 3.0)
MIN_VARIANCE = 0.05
MIN_MIXTURE_WEIGHT = 1e-4


@dataclass(frozen=True)
class ShiftedMixture:
    """A Gaussian mixture of shifted and scaled classes, with an optional extra component.

    Args:
        means: `[classes, d]` float64, of the source.
        shares: `[classes]` or, with an extra component, `[classes + 1]` float64; they sum to 1.
        shift: `[d]` float64.
        scale: 0.3 to 3.
        variance: `[d]` float64, at least 0.05.
        extra: `[d]` float64, mean of the extra component; None without one.
    """

    means: Array
    shares: Array
    shift: Array
    scale: float
    variance: Array
    extra: Array | None = None

    @property
    def centers(self) -> Array:
        """`[components, d]` on the target; the extra component is the last one."""
        return _centers(self.means, self.shift, self.scale, self.extra)

    def joint(self, images: Array) -> Array:
        """Return `[n, components]` float64: log of share times density."""
        unit = 1 / np.sqrt(self.variance)
        images, centers = images * unit, self.centers * unit
        distances = (images**2).sum(axis=1)[:, None] - 2 * (images @ centers.T) + (centers**2).sum(axis=1)
        constant = np.log(2 * np.pi * self.variance).sum()
        return np.log(self.shares) - 0.5 * (distances + constant)

    def log_likelihood(self, images: Array) -> Array:
        """Return `[n]` float64, per image."""
        from scipy.special import logsumexp

        return logsumexp(self.joint(images), axis=1)

    def distance_of_extra(self) -> float:
        """Return the distance of the extra component from the nearest class, in standard deviations."""
        centers = self.centers
        distances = (centers[:-1] - centers[-1]) ** 2 / self.variance
        return float(np.sqrt(distances.sum(axis=1).min()))


def _centers(means: Array, shift: Array, scale: float, extra: Array | None) -> Array:
    shifted = scale * means + shift
    return shifted if extra is None else np.concatenate([shifted, extra[None]])


def fit_shifted_mixture(images: Array, starts: Sequence[ShiftedMixture], weights: Array) -> ShiftedMixture:
    """Return the most likely mixture that EM reaches from any start (Dempster, Laird & Rubin 1977).

    Args:
        images: `[n, d]` float64.
        starts: Initial mixtures, all with an extra component or all without.
        weights: `[n]`, weights of the images.

    Reference:
        The location-scale model of Zhang et al. 2013, Domain Adaptation under Target and Conditional Shift,
        PMLR 28(3), section 4, with one shift and one scale for all classes.
    """
    best, best_likelihood = starts[0], -np.inf
    for start in starts:
        fitted, likelihood = _run_em(images, start, weights)
        # Up to rounding, the first start wins.
        if likelihood > best_likelihood + TOLERANCE * abs(likelihood):
            best, best_likelihood = fitted, likelihood
    return best


def initial_mixtures(means: Array, shares: Array, images: Array) -> list[ShiftedMixture]:
    """Return two starts: without a shift, and with the shift that matches the means of all images."""
    variance = np.maximum(1.0, images.var(axis=0) / 4)
    unshifted = ShiftedMixture(means, shares, np.zeros(means.shape[1]), 1.0, variance)
    return [unshifted, replace(unshifted, shift=images.mean(axis=0) - shares @ means)]


def _run_em(images: Array, model: ShiftedMixture, weights: Array) -> tuple[ShiftedMixture, float]:
    previous, total, squares = -np.inf, weights.sum(), images**2
    for _ in range(MAX_ITERATIONS):
        logs = model.joint(images)
        highest = logs.max(axis=1)
        likelihoods = highest + np.log(np.exp(logs - highest[:, None]).sum(axis=1))
        current = float((weights * likelihoods).sum() / total)
        if current - previous < TOLERANCE:
            break
        previous = current
        parts = np.exp(logs - likelihoods[:, None]) * weights[:, None]
        model = _maximize(images, squares, model, parts)
    return model, current


def _maximize(images: Array, squares: Array, model: ShiftedMixture, parts: Array) -> ShiftedMixture:
    """Maximize over shares, then extra, scale and shift by weighted least squares, then the variance."""
    masses = parts.sum(axis=0)
    mass_of_all = masses.sum()
    shares = np.maximum(masses / mass_of_all, MIN_MIXTURE_WEIGHT)
    sums = parts.T @ images
    classes = len(model.means)
    mass = masses[:classes]
    total = max(float(mass.sum()), 1e-9)
    center, center_of_means = sums[:classes].sum(axis=0) / total, mass @ model.means / total
    offsets = model.means - center_of_means
    observed = sums[:classes] - mass[:, None] * center
    power = float((mass[:, None] * offsets**2 / model.variance).sum())
    scale = float((offsets * observed / model.variance).sum()) / power if power > 1e-6 * total else 1.0
    scale = min(max(scale, SCALE_RANGE[0]), SCALE_RANGE[1])
    extra = None if model.extra is None else sums[-1] / max(float(masses[-1]), 1e-9)
    shift = center - scale * center_of_means
    centers = _centers(model.means, shift, scale, extra)
    spread = parts.sum(axis=1) @ squares - 2 * (sums * centers).sum(axis=0) + masses @ centers**2
    variance = np.maximum(spread / mass_of_all, MIN_VARIANCE)
    return ShiftedMixture(model.means, shares / shares.sum(), shift, scale, variance, extra)


MIN_DISTANCE = 4.0
"""In within-class standard deviations: two round classes at this distance share 2% of their images (Phi(-2))."""
MIN_UNKNOWN_SHARE = 0.1
"""Of the target images. With 0.05, digits with another contrast had an unknown class in 4 of 10 draws."""
MAX_UNKNOWN_SHARE = 0.5
"""A larger part is the shifted target itself, not a class in it."""
MAX_RELATIVE_SPREAD = 0.5
"""Of the spread of the other images between classes. On phantom hospitals, it was 0.74 to 0.92 for images of all
classes from another scanner, and 0.26 to 0.28 for an additional class."""
MIN_PATIENTS = 3
"""The images of one patient form a cluster."""
RESAMPLES = 500


def detect_unknown_class(source: Outputs, target: Outputs, space: ClassSpace, *, seed: int) -> dict[str, Any]:
    """Detect a cluster of target images that is far from every class, wherever a shift moved all of them.

    There is an unknown class if an extra mixture component improves the likelihood by more than its
    parameters cost, beyond the interval over resampled patients; if it is 4 standard deviations from the
    nearest class, and farther than such a component on the source, whose classes may have parts; if it holds
    a tenth to a half of the images and at least 3 patients; and if it spreads like a single class. A cluster
    that spreads between the known classes like the others contains these classes with another appearance.

    Args:
        source: Labeled images that the model was not trained on.
        target: Unlabeled images.
        space: Both domains in one feature space.
        seed: Seed of k-means and resamples.

    Returns:
        `detected` (None: too few patients), `distance` from the nearest class and `source_distance` in
        within-class standard deviations, `share` of the target images, `patients` in the cluster, `spread`
        between classes relative to the other images, and `gain` ({value, low, high}) in nats per image.
    """
    component = _extra_component(space, target.units, seed)
    source_space = class_space(source.features, source.known_labels, source.features)
    at_source = _extra_component(source_space, source.units, seed)
    source_distance = 0.0 if _objections(at_source) else at_source["distance"]
    is_far = component["distance"] > max(MIN_DISTANCE, source_distance)
    detected: bool | None = None
    if len(set(target.units)) >= MIN_GROUPS:
        detected = is_far and not _objections(component)
    return {"detected": detected, **component, "source_distance": source_distance}


def explain_unknown_class(result: Mapping[str, Any]) -> str:
    """Return the reason for a result of `detect_unknown_class`, as a clause for messages."""
    if result["detected"] is None:
        return f"at least {MIN_GROUPS} target patients are needed to detect an unknown class"
    share, distance = f"{result['share']:.0%} of the target images", f"{result['distance']:.1f}"
    if result["detected"]:
        return (
            f"{share} form a cluster at a distance of {distance} within-class standard deviations from every source "
            "class"
        )
    if result["distance"] <= MIN_DISTANCE:
        return "no part of the target is far from every source class"
    reasons = _objections(result)
    if result["distance"] <= result["source_distance"]:
        reasons.append(
            f"part of the source is as far from its own classes ({result['source_distance']:.1f} standard deviations)"
        )
    return (
        f"{share} are {distance} within-class standard deviations from every source class, but they are not an unknown "
        f"class: {'; '.join(reasons)}"
    )


def _objections(component: Mapping[str, Any]) -> list[str]:
    """Return the reasons why a component is not a single class; NaN is one."""
    low, share, patients = component["gain"]["low"], component["share"], component["patients"]
    several_classes = (
        f"its spread between classes is {component['spread']:.2f} times that of the other images, like that of several "
        f"classes (a single class: up to {MAX_RELATIVE_SPREAD:g})"
    )
    few_patients = f"it holds {pluralize(patients, 'patient')} (at least {MIN_PATIENTS} are needed)"
    objections = {
        "the cluster may be due to chance": low is None or not low > 0,
        f"it holds fewer than {MIN_UNKNOWN_SHARE:.0%} of the images": not share >= MIN_UNKNOWN_SHARE,
        f"it holds more than {MAX_UNKNOWN_SHARE:.0%} of the images": share > MAX_UNKNOWN_SHARE,
        few_patients: patients < MIN_PATIENTS,
        several_classes: not component["spread"] <= MAX_RELATIVE_SPREAD,
    }
    return [objection for objection, applies in objections.items() if applies]


def _extra_component(space: ClassSpace, units: Sequence[str], seed: int) -> dict[str, Any]:
    """Return the fields of `detect_unknown_class` that describe the best extra component."""
    images, without_extra = space.target, space.mixture
    ones, classes = np.ones(len(images)), len(without_extra.means)
    centers = _cluster_centers(images, classes + 1, seed)
    starts_with_extra = [
        replace(mixture, extra=center, shares=np.append(0.8 * mixture.shares, 0.2))
        for mixture in (*space.starts, without_extra)
        for center in centers
    ]
    with_extra = fit_shifted_mixture(images, starts_with_extra, ones)
    gains = with_extra.log_likelihood(images) - without_extra.log_likelihood(images)
    # One nat per parameter (Akaike 1974), divided by patients, because their images are not independent.
    cost = (images.shape[1] + 1) / len(set(units))
    drawn = resample(units, ones, seed=seed, resamples=RESAMPLES)

    def mean_gain(weights: Array) -> Array:
        return (weights * gains).sum(axis=1) / weights.sum(axis=1) - cost

    is_inside = with_extra.joint(images).argmax(axis=1) == classes
    return {
        "distance": with_extra.distance_of_extra(),
        "share": float(with_extra.shares[-1]),
        "patients": len({unit for unit, inside in zip(units, is_inside, strict=True) if inside}),
        "spread": _relative_spread(images[:, : classes - 1], is_inside),
        "gain": drawn.estimate(mean_gain, no_interval=""),
    }


def _relative_spread(images: Array, is_inside: Array) -> float:
    """Return the spread of the images inside relative to that of the others."""
    if not 0 < is_inside.sum() < len(is_inside):
        return 0.0
    inside, others = (float(images[rows].var(axis=0).sum()) for rows in (is_inside, ~is_inside))
    return inside / max(others, 1e-9)


def _cluster_centers(images: Array, clusters: int, seed: int) -> Array:
    """Return `[clusters, d]`, one of which is the start of the extra component."""
    from sklearn.cluster import KMeans

    clusters = min(clusters, len(np.unique(images, axis=0)))
    return KMeans(clusters, n_init=5, random_state=seed).fit(images).cluster_centers_

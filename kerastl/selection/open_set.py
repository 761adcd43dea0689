"""Whether part of the target is far from every class that the source has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kerastl.evaluation.bootstrap import FEWEST_GROUPS, interval, resample
from kerastl.selection.domain_classifier import ClassSpace, class_space
from kerastl.selection.evidence import Outputs

Array = np.ndarray[Any, Any]

ROUNDS = 100
SETTLED = 1e-6
STRETCH = (0.3, 3.0)
SMALLEST_VARIANCE = 0.05
MIN_MIXTURE_WEIGHT = 1e-4


@dataclass(frozen=True)
class MovedClasses:
    """A fitted mixture.

    Args:
        means: `[classes, d]` float64, of the source.
        shares: `[classes]` or, with an extra component, `[classes + 1]` float64; they sum to 1.
        shift: `[d]` float64.
        stretch: 0.3 to 3.
        variance: `[d]` float64, at least 0.05.
        extra: `[d]` float64, the mean of the extra component; None: there is none.
    """

    means: Array
    shares: Array
    shift: Array
    stretch: float
    variance: Array
    extra: Array | None = None

    @property
    def centres(self) -> Array:
        """`[components, d]` at the target, the extra one last."""
        moved = self.stretch * self.means + self.shift
        return moved if self.extra is None else np.concatenate([moved, self.extra[None]])

    def joint(self, images: Array) -> Array:
        """Return `[n, components]` float64: log of share times density."""
        unit = 1 / np.sqrt(self.variance)
        near, centres = images * unit, self.centres * unit
        gaps = (near**2).sum(axis=1)[:, None] - 2 * near @ centres.T + (centres**2).sum(axis=1)
        constant = np.log(2 * np.pi * self.variance).sum()
        logs: Array = np.log(self.shares) - 0.5 * (gaps + constant)
        return logs

    def log_likelihood(self, images: Array) -> Array:
        """Return `[n]` float64, of each image."""
        from scipy.special import logsumexp

        found: Array = logsumexp(self.joint(images), axis=1)
        return found

    def distance_of_extra(self) -> float:
        """How far the extra component lies from the nearest class, in spreads within a class."""
        centres = self.centres
        gaps = (centres[:-1] - centres[-1]) ** 2 / self.variance
        return float(np.sqrt(gaps.sum(axis=1).min()))


def fit_moved_classes(images: Array, start: Sequence[MovedClasses], weights: Array) -> MovedClasses:
    """Return the likeliest mixture that EM reaches from any of the starts (Dempster, Laird & Rubin 1977).

    Args:
        images: `[n, d]` float64.
        start: mixtures to begin with, with an extra component in all or in none.
        weights: `[n]`, how often each image counts.

    Reference:
        The location-scale model of Zhang et al. 2013, Domain Adaptation under Target and Conditional Shift, PMLR 28(3),
        section 4, with one shift and one stretch for all classes.
    """
    best, most = start[0], -np.inf
    for one in start:
        fitted, likelihood = _climb(images, one, weights)
        # A start that ends as high but for rounding does not replace the first one.
        if likelihood > most + SETTLED * abs(likelihood):
            best, most = fitted, likelihood
    return best


def starts_of(means: Array, shares: Array, images: Array) -> list[MovedClasses]:
    """Return two mixtures to begin with: classes where they were, and moved so that the means of all images agree."""
    unmoved = MovedClasses(
        means, shares, np.zeros(means.shape[1]), 1.0, np.maximum(1.0, images.var(axis=0) / 4)
    )
    return [unmoved, replace(unmoved, shift=images.mean(axis=0) - shares @ means)]


def _climb(images: Array, model: MovedClasses, weights: Array) -> tuple[MovedClasses, float]:
    before = -np.inf
    for _ in range(ROUNDS):
        logs = model.joint(images)
        highest = logs.max(axis=1)
        told = highest + np.log(np.exp(logs - highest[:, None]).sum(axis=1))
        now = float((weights * told).sum() / weights.sum())
        if now - before < SETTLED:
            break
        before = now
        model = _step(images, model, np.exp(logs - told[:, None]) * weights[:, None])
    return model, now


def _step(images: Array, model: MovedClasses, parts: Array) -> MovedClasses:
    """Maximize over shares, then extra, stretch and shift by weighted least squares, then the variance."""
    masses = parts.sum(axis=0)
    shares = np.maximum(masses / masses.sum(), MIN_MIXTURE_WEIGHT)
    sums = parts.T @ images
    classes = len(model.means)
    mass = masses[:classes]
    total = max(float(mass.sum()), 1e-9)
    middle, middle_mean = sums[:classes].sum(axis=0) / total, mass @ model.means / total
    offsets = model.means - middle_mean
    seen = sums[:classes] - mass[:, None] * middle
    power = float((mass[:, None] * offsets**2 / model.variance).sum())
    stretch = float((offsets * seen / model.variance).sum()) / power if power > 1e-6 * total else 1.0
    stretch = float(np.clip(stretch, *STRETCH))
    extra = None if model.extra is None else sums[-1] / max(float(masses[-1]), 1e-9)
    moved = replace(
        model, shares=shares / shares.sum(), shift=middle - stretch * middle_mean, stretch=stretch, extra=extra
    )  # fmt: skip
    centres = moved.centres
    squares = parts.sum(axis=1) @ images**2 - 2 * (sums * centres).sum(axis=0) + masses @ centres**2
    variance = squares / masses.sum()
    return replace(moved, variance=np.maximum(variance, SMALLEST_VARIANCE))


FARTHEST = 4.0
"""Spreads within a class: two round classes so far apart share 2 % of their images (Phi(-2))."""
MIN_UNKNOWN_SHARE = 0.1
"""Of the target's images. Classes of real images have odd corners: with 0.05, digits in another contrast, but no new
digit among them, had an unknown class in 4 of 10 draws; with 0.1 in none."""
LARGEST_SHARE = 0.5
"""Most of the target is the target itself, moved, and no class within it."""
ONE_CLASS = 0.5
"""Of the spread that the other images have between classes. A single class spreads a quarter as far as two that lie 4 spreads
apart; images of all classes in another view spread as far as the others: 0.74 to 0.92 on phantom hospitals whose scanners
differ, 0.26 to 0.28 where a class was planted."""
FEWEST_PATIENTS = 3
"""One patient's images make a cluster of themselves."""


def unknown_class(
    source: Outputs,
    target: Outputs,
    space: ClassSpace,
    *,
    seed: int,
    resamples: int = 500,
    level: float = 0.95,
) -> dict[str, Any]:
    """Look for a cluster of target images that is far from every class, wherever a shift moved all of them to.

    There is one where a component beside the moved classes explains the images better, beyond the interval of the gain over
    resampled patients and the price of its parameters; where it is 4 spreads from the nearest class, and farther than
    any such cluster among the source's own images, whose classes may have parts; where it holds a tenth to a half of the
    images and 3 patients; and where it is one class: a cluster that spreads as far between the known classes as the others holds
    these itself, in another kind of images or patients.

    Args:
        source: labelled images that the model did not learn from.
        target: unlabelled ones.
        space: of both.
        seed: of k-means and resamples.
        resamples, level: of the gain's interval.

    Returns:
        `found` (None: too few patients to tell), `distance` from the nearest class and `farthest_at_source` in spreads within a class,
        `share` of the target's images, `patients` in it, `spread` between classes, as a part of that of the others, and `gain`: {value,
        low, high} in nats an image.
    """
    at_target = _extra_component(space, target.units, seed, resamples, level)
    itself = class_space(source.features, source.known_labels, source.features)
    at_source = _extra_component(itself, source.units, seed, resamples, level)
    usual = at_source["distance"] if _is_there(at_source) else 0.0
    found: bool | None = _is_there(at_target) and at_target["distance"] > max(FARTHEST, usual)
    if len(set(target.units)) < FEWEST_GROUPS:
        found = None
    return {"found": found, **at_target, "farthest_at_source": usual}


def _is_there(one: dict[str, Any]) -> bool:
    return not _why_no_class(one)


def why_not_found(told: Mapping[str, Any]) -> str:
    """Return why what `unknown_class` measured is no unknown class, in plain words.

    Args:
        told: what it returned, `found` being false.
    """
    if told["distance"] <= FARTHEST:
        return "no part of the target is far from every class of the source"
    why = _why_no_class(told)
    if told["distance"] <= told["farthest_at_source"]:
        usual = f"{told['farthest_at_source']:.1f}"
        why.append(f"a part of the source's own images is as far from its classes ({usual})")
    return (
        f"part of the target ({told['share']:.0%} of its images) is {told['distance']:.1f} times the spread of a class away from "
        f"every class of the source, but it is no unknown class: {'; '.join(why)}"
    )


def _why_no_class(one: Mapping[str, Any]) -> list[str]:
    """Return what keeps a component from being one class of its own, however far it is; empty where nothing does.

    What is not a number keeps it, too.
    """
    low, share, patients, spread = one["gain"]["low"], one["share"], one["patients"], one["spread"]
    why = []
    if low is None or not low > 0:
        why.append("that these images lie together may be chance")
    if not share >= MIN_UNKNOWN_SHARE:
        why.append(f"fewer than {MIN_UNKNOWN_SHARE:.0%} of the images may be an odd corner of a class")
    if share > LARGEST_SHARE:
        why.append(f"more than {LARGEST_SHARE:.0%} of the images are the target itself, moved")
    if patients < FEWEST_PATIENTS:
        why.append(f"they are of {patients} patient{'s'[: patients != 1]}, {FEWEST_PATIENTS} are wanted")
    if not spread <= ONE_CLASS:
        why.append(
            f"they spread {spread:.2f} times as far between the classes as the others, as images of several classes do "
            f"(one class: up to {ONE_CLASS:g})"
        )
    return why


def _extra_component(
    space: ClassSpace, units: Sequence[str], seed: int, resamples: int, level: float
) -> dict[str, Any]:
    images = space.target
    once = np.ones(len(images))
    classes = np.bincount(space.labels) / len(space.labels)
    means = space.class_means(np.ones(len(space.source)))
    starts = starts_of(means, classes, images)
    without = fit_moved_classes(images, starts, once)
    begun = [*starts, without]
    several = [_with_extra(one, place) for one in begun for place in _places(images, len(means), seed)]
    extra = fit_moved_classes(images, several, once)
    gains = extra.log_likelihood(images) - without.log_likelihood(images)
    # A nat for each number of its mean and its share (Akaike 1974), over patients: images of one repeat each other.
    price = (images.shape[1] + 1) / len(set(units))
    drawn = resample(list(units), [""] * len(units), once, seed=seed, resamples=resamples)
    weights = drawn.counts[:, drawn.group_of]
    told = interval((weights * gains).sum(axis=1) / weights.sum(axis=1) - price, level=level)
    low, high = told if told else (None, None)
    inside = extra.joint(images).argmax(axis=1) == len(means)
    return {
        "distance": extra.distance_of_extra(),
        "share": float(extra.shares[-1]),
        "patients": len({unit for unit, is_in in zip(units, inside, strict=True) if is_in}),
        "spread": _spread(images[:, : len(means) - 1], inside),
        "gain": {"value": float(gains.mean() - price), "low": low, "high": high},
    }


def _spread(between: Array, inside: Array) -> float:
    """Return how far the images inside spread between classes, as a part of how far the others do."""
    if not 0 < inside.sum() < len(inside):
        return 0.0
    within, others = (float(between[one].var(axis=0).sum()) for one in (inside, ~inside))
    return within / max(others, 1e-9)


def _with_extra(model: MovedClasses, place: Array) -> MovedClasses:
    return replace(model, extra=place, shares=np.append(0.8 * model.shares, 0.2))


def _places(images: Array, classes: int, seed: int) -> Array:
    """Return `[classes + 1, d]`: centres of one cluster more than there are classes, one of which is the extra's start."""
    from sklearn.cluster import KMeans

    clusters = min(classes + 1, len(np.unique(images, axis=0)))
    centres: Array = KMeans(clusters, n_init=5, random_state=seed).fit(images).cluster_centers_
    return centres

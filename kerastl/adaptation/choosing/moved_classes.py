"""The target as the source's classes moved: a mixture whose means are those of the source, shifted and stretched as one.

    x at the target ~ sum_k share_k N(stretch * mean_k + shift, diag(variance))  [+ share_e N(extra, diag(variance))]

What another scanner does to all classes alike is the shift, the stretch and the variance; how common classes are is the
shares; and what is none of them is the extra component. So that a shift of all pictures is not taken for another prevalence,
nor for an unknown class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

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

    def joint(self, pictures: Array) -> Array:
        """Return `[n, components]` float64: log of share times density."""
        unit = 1 / np.sqrt(self.variance)
        near, centres = pictures * unit, self.centres * unit
        gaps = (near**2).sum(axis=1)[:, None] - 2 * near @ centres.T + (centres**2).sum(axis=1)
        constant = np.log(2 * np.pi * self.variance).sum()
        logs: Array = np.log(self.shares) - 0.5 * (gaps + constant)
        return logs

    def log_likelihood(self, pictures: Array) -> Array:
        """Return `[n]` float64, of each picture."""
        from scipy.special import logsumexp

        found: Array = logsumexp(self.joint(pictures), axis=1)
        return found

    def distance_of_extra(self) -> float:
        """How far the extra component lies from the nearest class, in spreads within a class."""
        centres = self.centres
        gaps = (centres[:-1] - centres[-1]) ** 2 / self.variance
        return float(np.sqrt(gaps.sum(axis=1).min()))


def fit_moved_classes(
    pictures: Array, start: Sequence[MovedClasses], weights: Array
) -> MovedClasses:
    """Return the likeliest mixture that EM reaches from any of the starts (Dempster, Laird & Rubin 1977).

    Args:
        pictures: `[n, d]` float64.
        start: mixtures to begin with, with an extra component in all or in none.
        weights: `[n]`, how often each picture counts.

    Reference:
        The location-scale model of Zhang et al. 2013, Domain Adaptation under Target and Conditional Shift, PMLR 28(3),
        section 4, with one shift and one stretch for all classes.
    """
    best, most = start[0], -np.inf
    for one in start:
        fitted, likelihood = _climb(pictures, one, weights)
        # A start that ends as high but for rounding does not replace the first one.
        if likelihood > most + SETTLED * abs(likelihood):
            best, most = fitted, likelihood
    return best


def starts_of(means: Array, shares: Array, pictures: Array) -> list[MovedClasses]:
    """Return two mixtures to begin with: classes where they were, and moved so that the means of all pictures agree."""
    unmoved = MovedClasses(
        means, shares, np.zeros(means.shape[1]), 1.0, np.maximum(1.0, pictures.var(axis=0) / 4)
    )
    return [unmoved, replace(unmoved, shift=pictures.mean(axis=0) - shares @ means)]


def _climb(pictures: Array, model: MovedClasses, weights: Array) -> tuple[MovedClasses, float]:
    before = -np.inf
    for _ in range(ROUNDS):
        logs = model.joint(pictures)
        highest = logs.max(axis=1)
        told = highest + np.log(np.exp(logs - highest[:, None]).sum(axis=1))
        now = float((weights * told).sum() / weights.sum())
        if now - before < SETTLED:
            break
        before = now
        model = _step(pictures, model, np.exp(logs - told[:, None]) * weights[:, None])
    return model, now


def _step(pictures: Array, model: MovedClasses, parts: Array) -> MovedClasses:
    """Maximize over shares, then extra, stretch and shift by weighted least squares, then the variance."""
    masses = parts.sum(axis=0)
    shares = np.maximum(masses / masses.sum(), MIN_MIXTURE_WEIGHT)
    sums = parts.T @ pictures
    classes = len(model.means)
    mass = masses[:classes]
    total = max(float(mass.sum()), 1e-9)
    middle, middle_mean = sums[:classes].sum(axis=0) / total, mass @ model.means / total
    offsets = model.means - middle_mean
    seen = sums[:classes] - mass[:, None] * middle
    power = float((mass[:, None] * offsets**2 / model.variance).sum())
    stretch = (
        float((offsets * seen / model.variance).sum()) / power if power > 1e-6 * total else 1.0
    )
    stretch = float(np.clip(stretch, *STRETCH))
    extra = None if model.extra is None else sums[-1] / max(float(masses[-1]), 1e-9)
    moved = replace(
        model, shares=shares / shares.sum(), shift=middle - stretch * middle_mean, stretch=stretch, extra=extra
    )  # fmt: skip
    centres = moved.centres
    squares = (
        parts.sum(axis=1) @ pictures**2 - 2 * (sums * centres).sum(axis=0) + masses @ centres**2
    )
    variance = squares / masses.sum()
    return replace(moved, variance=np.maximum(variance, SMALLEST_VARIANCE))

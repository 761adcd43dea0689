"""Bias-corrected temperature scaling: one temperature, and a shift for each class."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from kerastl.evaluation.bootstrap import Part
from kerastl.evaluation.metrics import equal_mass_bins, confidence_and_outcome
from kerastl.evaluation.predictions import Array

MIN_SLOPE, MAX_SLOPE = 1e-3, 50.0
FLAT, ROUNDING = 1e-8, 1e-12
MOST_FOR_NEWTON = 64
MOST_STEPS = 50
MOST_HALVINGS = 20
PULL = 1e-6
"""Weight of a pull to no change at all, an image: classes that are told apart perfectly have no finite fit."""


@dataclass(frozen=True)
class Calibrator:
    """What makes probabilities of logits.

    Args:
        inverse_temperature: what logits are multiplied with, 0 to 50.
        bias: `[classes]` float64, what is then added; the first is 0.
    """

    inverse_temperature: float
    bias: Array

    def probabilities(self, logits: Array) -> Array:
        """Return `[n, classes]` float64 for logits `[n, classes]`."""
        return _softmax(logits.astype(np.float64) * self.inverse_temperature + self.bias)


def fit_calibrator(labels: Array, logits: Array, *, weights: Array | None = None) -> Calibrator:
    """Return the temperature and the biases with the least log loss.

    Its mean probabilities are the shares of the labels, which EM on another prevalence rests on.

    Args:
        labels: `[n]` int, each class at least once.
        logits: `[n, classes]` float.
        weights: `[n]`, how often each row counts; None: once.

    Reference:
        Alexandari, Kundaje & Shrikumar 2020, arXiv:1901.06852, section 3.3 (BCTS).
    """
    rows = np.ones(len(labels)) if weights is None else weights
    loss = _Loss(logits.astype(np.float64), np.eye(logits.shape[1])[labels], rows / rows.sum())
    found = _by_newton(loss)
    if found is None:
        found = _by_quasi_newton(loss)
    return Calibrator(float(found[0]), np.append(0.0, found[1:]))


@dataclass(frozen=True)
class _Loss:
    """The log loss, a convex function of (inverse temperature, biases but the first), with the pull to no change.

    Args:
        levels: `[n, classes]` float64, the logits.
        truth: `[n, classes]`, one-hot.
        weights: `[n]`, that sum to 1.
    """

    levels: Array
    truth: Array
    weights: Array

    @property
    def start(self) -> Array:
        return np.append(1.0, np.zeros(self.levels.shape[1] - 1))

    def told(self, at: Array) -> Array:
        return _softmax(self.levels * at[0] + np.append(0.0, at[1:]))

    def value_and_slope(self, at: Array) -> tuple[float, Array]:
        told, change = self.told(at), at - self.start
        true = np.maximum((told * self.truth).sum(axis=1), np.finfo(np.float64).tiny)
        error = self.weights[:, None] * (told - self.truth)
        slope = np.append((error * self.levels).sum(), error.sum(axis=0)[1:]) + 2 * PULL * change
        return float((self.weights * -np.log(true)).sum() + PULL * (change**2).sum()), slope

    def bend(self, at: Array) -> Array:
        """Return `[classes, classes]`, the second derivatives."""
        told = self.told(at)
        mean = np.column_stack([(told * self.levels).sum(axis=1), told[:, 1:]])
        mass = self.weights[:, None] * told
        square = np.diag(np.append((mass * self.levels**2).sum(), mass.sum(axis=0)[1:]))
        square[0, 1:] = square[1:, 0] = (mass * self.levels).sum(axis=0)[1:]
        # Not a matrix product, whose order of summing depends on the threads.
        spread = np.einsum("i,ij,ik->jk", self.weights, mean, mean, optimize=False)
        bent: Array = square - spread + 2 * PULL * np.eye(len(at))
        return bent


def _by_newton(loss: _Loss) -> Array | None:
    """Return the place of the least loss; None where that takes long, as with many classes."""
    if loss.levels.shape[1] > MOST_FOR_NEWTON:
        return None
    found = _without_slope(loss, loss.start, 0)
    if found is None or MIN_SLOPE <= found[0] <= MAX_SLOPE:
        return found
    # The loss is convex: where its least value lies beyond a bound, that within lies at the bound.
    bounded = np.append(np.clip(found[0], MIN_SLOPE, MAX_SLOPE), loss.start[1:])
    return _without_slope(loss, bounded, 1)


def _without_slope(loss: _Loss, at: Array, first: int) -> Array | None:
    """Go to where the loss has no slope by its parameters from the place `first` on; None where that takes long."""
    value, slope = loss.value_and_slope(at)
    for _ in range(MOST_STEPS):
        if np.abs(slope[first:]).max() < FLAT:
            return at
        step = np.zeros_like(at)
        step[first:] = np.linalg.solve(loss.bend(at)[first:, first:], slope[first:])
        for halvings in range(MOST_HALVINGS):
            trial = at - step / 2**halvings
            lower, its_slope = loss.value_and_slope(trial)
            if lower <= value + ROUNDING:
                break
        else:
            return None
        at, value, slope = trial, lower, its_slope
    return None


def _by_quasi_newton(loss: _Loss) -> Array:
    from scipy.optimize import minimize

    bounds = [(MIN_SLOPE, MAX_SLOPE)] + [(None, None)] * (len(loss.start) - 1)
    options = {"gtol": FLAT, "ftol": 1e-14}
    found = minimize(
        loss.value_and_slope, loss.start, jac=True, method="L-BFGS-B", bounds=bounds, options=options
    )
    best: Array = found.x
    return best


def _softmax(logits: Array) -> Array:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Array = shifted / shifted.sum(axis=1, keepdims=True)
    return shares


RANGE = (0.02, 50.0)
MIN_PROBABILITY = np.finfo(np.float64).tiny


def fit_temperature(labels: Array, probabilities: Array) -> float | None:
    """Return the temperature whose scaled probabilities have the least log loss.

    Args:
        labels: `[n]` int.
        probabilities: `[n, classes]` float64; their logarithms are the logits, up to a number a row that
            no softmax sees.

    Returns:
        Above 1 where the model was too sure, below 1 where it was not sure enough. None where nothing
        between 0.02 and 50 is best: each image is answered right (0 would be best), or the answers say
        nothing (infinity would be).

    Reference:
        Guo et al. 2017, arXiv:1706.04599, section 4.2.
    """
    from scipy.optimize import brentq

    logits = logits_from(probabilities)
    gaps = logits - logits[np.arange(len(labels)), labels][:, None]

    def slope(log_inverse: float) -> float:
        """Return the derivative of the log loss by the inverse temperature, a rising function of it."""
        scaled = gaps * np.exp(log_inverse)
        shifted = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return float(((shifted * gaps).sum(axis=1) / shifted.sum(axis=1)).mean())

    low, high = -np.log(RANGE[1]), -np.log(RANGE[0])
    if not len(labels) or slope(low) >= 0 or slope(high) <= 0:
        return None
    return float(np.exp(-brentq(slope, low, high, xtol=1e-10)))


def with_temperature(probabilities: Array, temperature: float) -> Array:
    """Return `[n, classes]` float64: the softmax of the logits divided by a temperature above 0."""
    logits = logits_from(probabilities) / temperature
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    scaled: Array = shifted / shifted.sum(axis=1, keepdims=True)
    return scaled


def logits_from(probabilities: Array) -> Array:
    """Return `[n, classes]` float64 logits of probabilities: the same bytes for a table that was read back."""
    logits: Array = np.log(np.maximum(probabilities, MIN_PROBABILITY))
    return logits


CURVE_BINS = 10
AT = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""Threshold probabilities of a decision curve."""


def reliability_curve(part: Part, probabilities: Array) -> list[dict[str, Any]]:
    """Return the points of a reliability curve, ten bins of equal mass, those without images left out.

    Args:
        part: the labels and the resamples.
        probabilities: `[n, classes]` float64, of the part's images, as they are or scaled.

    Returns:
        `{"told": mean probability, "true": share that came true with its interval, "count"}` a bin;
        of two classes for the probability of the last one, of more for that of the answer.
    """
    told, true = confidence_and_outcome(part.predictions.labels, probabilities)
    bins = equal_mass_bins(told, CURVE_BINS)
    names = np.unique(bins)
    member = (bins[:, None] == names).astype(np.float64)
    shares = part.estimate_columns(partial(_share_of_bins, member, true), "no image")
    return [
        {"told": float(told[bins == name].mean()), "true": share, "count": int((bins == name).sum())}
        for name, share in zip(names, shares, strict=True)
    ]


def _share_of_bins(member: Array, true: Array, weights: Array) -> Array:
    """Return `[resamples, bins]`: of the images of each bin, the share that came true."""
    count, hits = weights @ member, weights @ (member * true[:, None])
    share = np.full(count.shape, np.nan)
    np.divide(hits, count, out=share, where=count > 0)
    return share


def net_benefit(positive: Array, called: Array, weights: Array, *, at: tuple[float, ...]) -> Array:
    """Return `[resamples, thresholds]`: true positives less false ones, these weighed by the odds, an image.

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


def decision_curve(part: Part, positive: int) -> dict[str, Any]:
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
        told[name] = part.estimate_columns(figure, "no image")
    return told

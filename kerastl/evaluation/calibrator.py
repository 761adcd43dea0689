"""Bias-corrected temperature scaling: one temperature, and a shift for each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

MIN_SLOPE, MAX_SLOPE = 1e-3, 50.0
FLAT, ROUNDING = 1e-8, 1e-12
MOST_FOR_NEWTON = 64
MOST_STEPS = 50
MOST_HALVINGS = 20
PULL = 1e-6
"""Weight of a pull to no change at all, a picture: classes that are told apart perfectly have no finite fit."""


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
        loss.value_and_slope,
        loss.start,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options=options,
    )
    best: Array = found.x
    return best


def _softmax(logits: Array) -> Array:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Array = shifted / shifted.sum(axis=1, keepdims=True)
    return shares

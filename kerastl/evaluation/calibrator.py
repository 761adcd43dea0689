"""Bias-corrected temperature scaling: one temperature, and a shift for each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

STEEPEST = 50.0
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
    from scipy.optimize import minimize

    rows = np.ones(len(labels)) if weights is None else weights
    rows = rows / rows.sum()
    levels = logits.astype(np.float64)
    truth = np.eye(levels.shape[1])[labels]

    def loss(parameters: Array) -> tuple[float, Array]:
        told = _softmax(levels * parameters[0] + np.append(0.0, parameters[1:]))
        true = np.maximum((told * truth).sum(axis=1), np.finfo(np.float64).tiny)
        error = rows[:, None] * (told - truth)
        change = parameters - start
        gradient = np.append((error * levels).sum(), error.sum(axis=0)[1:]) + 2 * PULL * change
        return float((rows * -np.log(true)).sum() + PULL * (change**2).sum()), gradient

    start = np.append(1.0, np.zeros(levels.shape[1] - 1))
    bounds = [(1e-3, STEEPEST)] + [(None, None)] * (len(start) - 1)
    found = minimize(
        loss,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"gtol": 1e-8, "ftol": 1e-14},
    )
    return Calibrator(float(found.x[0]), np.append(0.0, found.x[1:]))


def _softmax(logits: Array) -> Array:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Array = shifted / shifted.sum(axis=1, keepdims=True)
    return shares

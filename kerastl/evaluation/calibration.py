"""Calibration: temperature scaling, with biases per class, and reliability and decision curves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from kerastl.evaluation.bootstrap import ResampledPredictions, Trials
from kerastl.evaluation.metrics import confidence_and_outcome, equal_mass_bins, ratio
from kerastl.evaluation.predictions import Array
from kerastl.tasks import SINGLE_LABEL

MIN_INVERSE_TEMPERATURE, MAX_INVERSE_TEMPERATURE = 1e-3, 50.0
GRADIENT_TOLERANCE, ROUNDING_TOLERANCE = 1e-8, 1e-12
MAX_NEWTON_CLASSES = 64
MAX_NEWTON_STEPS = 50
MAX_STEP_HALVINGS = 20
REGULARIZATION = 1e-6
"""Weight of the squared distance to the identity, per image. Separable classes have no finite fit without it."""


def calibrate(logits: Array, parameters: Array) -> Array:
    """Return the probabilities `[n, classes]` float64 of bias-corrected temperature scaling.

    Args:
        logits: `[n, classes]`.
        parameters: `[classes]` float64, the factor of the logits, and the biases of all classes but the first.
    """
    biases = np.append(0.0, parameters[1:])
    return SINGLE_LABEL.probabilities(np.asarray(logits, np.float64) * parameters[0] + biases)


def fit_calibrator(labels: Array, logits: Array, *, weights: Array | None = None) -> Array:
    """Return the parameters of `calibrate` that minimize the log loss.

    The mean of the probabilities equals the frequencies of the labels. EM for a different prevalence relies on this.

    Args:
        labels: `[n]` int, each class at least once.
        logits: `[n, classes]` float.
        weights: `[n]` weights of the images. None for 1.

    Reference:
        Alexandari, Kundaje & Shrikumar 2020, arXiv:1901.06852, section 3.3 (BCTS).
    """
    rows = np.ones(len(labels)) if weights is None else weights
    loss = _Loss(logits.astype(np.float64), np.eye(logits.shape[1])[labels], rows / rows.sum())
    parameters = _newton(loss)
    if parameters is None:
        bounds = [(MIN_INVERSE_TEMPERATURE, MAX_INVERSE_TEMPERATURE), *[(None, None)] * (logits.shape[1] - 1)]
        options = {"gtol": GRADIENT_TOLERANCE, "ftol": 1e-14}
        from scipy.optimize import minimize

        parameters = minimize(
            loss.value_and_gradient, loss.start, jac=True, method="L-BFGS-B", bounds=bounds, options=options
        ).x
    return parameters


@dataclass(frozen=True)
class _Loss:
    """The regularized log loss, a convex function of the parameters of `calibrate`.

    Args:
        logits: `[n, classes]` float64.
        targets: `[n, classes]`, one-hot.
        weights: `[n]`, of sum 1.
    """

    logits: Array
    targets: Array
    weights: Array

    @property
    def start(self) -> Array:
        return np.append(1.0, np.zeros(self.logits.shape[1] - 1))

    def value_and_gradient(self, parameters: Array) -> tuple[float, Array]:
        predicted, change = calibrate(self.logits, parameters), parameters - self.start
        of_label = np.maximum((predicted * self.targets).sum(axis=1), np.finfo(np.float64).tiny)
        error = self.weights[:, None] * (predicted - self.targets)
        gradient = np.append((error * self.logits).sum(), error.sum(axis=0)[1:])
        gradient = gradient + 2 * REGULARIZATION * change
        value = (self.weights * -np.log(of_label)).sum() + REGULARIZATION * (change**2).sum()
        return float(value), gradient

    def hessian(self, parameters: Array) -> Array:
        """Return `[classes, classes]`, the second derivatives."""
        predicted = calibrate(self.logits, parameters)
        mean = np.column_stack([(predicted * self.logits).sum(axis=1), predicted[:, 1:]])
        mass = self.weights[:, None] * predicted
        second_moment = np.diag(np.append((mass * self.logits**2).sum(), mass.sum(axis=0)[1:]))
        second_moment[0, 1:] = second_moment[1:, 0] = (mass * self.logits).sum(axis=0)[1:]
        # Not a matrix product: its order of summation depends on the number of threads.
        product = np.einsum("i,ij,ik->jk", self.weights, mean, mean, optimize=False)
        return second_moment - product + 2 * REGULARIZATION * np.eye(len(parameters))


def _newton(loss: _Loss) -> Array | None:
    """Return the minimum by Newton's method. None if it is slow: for many classes, or without convergence."""
    if loss.logits.shape[1] > MAX_NEWTON_CLASSES:
        return None
    minimum = _minimize_from(loss, loss.start, 0)
    if minimum is None or MIN_INVERSE_TEMPERATURE <= minimum[0] <= MAX_INVERSE_TEMPERATURE:
        return minimum
    # The loss is convex: if the minimum is beyond a bound, the minimum within the bounds is at that bound.
    bound = np.clip(minimum[0], MIN_INVERSE_TEMPERATURE, MAX_INVERSE_TEMPERATURE)
    return _minimize_from(loss, np.append(bound, loss.start[1:]), 1)


def _minimize_from(loss: _Loss, parameters: Array, first: int) -> Array | None:
    """Minimize over the parameters from index `first` on. None without convergence."""
    value, gradient = loss.value_and_gradient(parameters)
    for _ in range(MAX_NEWTON_STEPS):
        if np.abs(gradient[first:]).max() < GRADIENT_TOLERANCE:
            return parameters
        step = np.zeros_like(parameters)
        step[first:] = np.linalg.solve(loss.hessian(parameters)[first:, first:], gradient[first:])
        for halvings in range(MAX_STEP_HALVINGS):
            trial = parameters - step / 2**halvings
            trial_value, trial_gradient = loss.value_and_gradient(trial)
            if trial_value <= value + ROUNDING_TOLERANCE:
                break
        else:
            return None
        parameters, value, gradient = trial, trial_value, trial_gradient
    return None


MIN_TEMPERATURE, MAX_TEMPERATURE = 0.02, 50.0


def fit_temperature(labels: Array, logits: Array) -> float | None:
    """Return the temperature that minimizes the log loss.

    Args:
        labels: `[n]` int.
        logits: `[n, classes]`. A constant per row does not matter.

    Returns:
        The temperature: above 1 if the model is overconfident, below 1 if it is underconfident. None if there is no
        minimum between 0.02 and 50, because each image is classified correctly (0 would be best) or because the
        predictions are uninformative (infinity would be best).

    Reference:
        Guo et al. 2017, arXiv:1706.04599, section 4.2.
    """
    logits = np.asarray(logits, np.float64)
    gaps = logits - logits[np.arange(len(labels)), labels][:, None]

    def derivative(log_inverse: float) -> float:
        """Return the derivative of the log loss by the inverse temperature, an increasing function of it."""
        scaled = gaps * np.exp(log_inverse)
        exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return float(((exponentials * gaps).sum(axis=1) / exponentials.sum(axis=1)).mean())

    low, high = -np.log(MAX_TEMPERATURE), -np.log(MIN_TEMPERATURE)
    if not len(labels) or derivative(low) >= 0 or derivative(high) <= 0:
        return None
    from scipy.optimize import brentq

    return float(np.exp(-brentq(derivative, low, high, xtol=1e-10)))


CURVE_BINS = 10
THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""Threshold probabilities of a decision curve."""


def reliability_curve(part: ResampledPredictions, probabilities: Array) -> list[dict[str, Any]]:
    """Return the points of a reliability curve for ten bins of equal mass, without empty bins.

    Args:
        part: The labels and the resamples.
        probabilities: `[n, classes]` float64 of the images, calibrated or not.

    Returns:
        `{"predicted": mean probability, "observed": observed frequency with its interval, "count"}` per bin. With two
        classes, of the last one; with more, of the predicted class.
    """
    confidence, outcome = confidence_and_outcome(part.predictions.labels, probabilities)
    bins = equal_mass_bins(confidence, CURVE_BINS)
    indices = np.unique(bins)
    members = (bins[:, None] == indices).astype(np.float64)
    hits = members * outcome[:, None]
    trials = [Trials(part.count_groups(bins == index), int((bins == index).sum())) for index in indices]
    frequencies = part.estimate_columns(
        lambda weights: ratio(weights @ hits, weights @ members), "no image", trials=trials
    )
    return [
        {
            "predicted": float(confidence[bins == index].mean()),
            "observed": frequency,
            "count": int((bins == index).sum()),
        }
        for index, frequency in zip(indices, frequencies, strict=True)
    ]


def net_benefit(positive: Array, treated: Array, weights: Array, *, at: tuple[float, ...]) -> Array:
    """Return `[resamples, thresholds]`: true positives minus false positives times the odds, per image.

    Args:
        positive: `[n]` bool.
        treated: `[n, thresholds]` bool, whether an image is classified as positive.
        weights: `[resamples, n]`.
        at: Threshold probabilities, above 0 and below 1. At p, a true positive is worth (1 - p) / p false positives.

    Reference:
        Vickers & Elkin 2006, doi:10.1177/0272989X06295361.
    """
    odds = np.array([threshold / (1 - threshold) for threshold in at])
    true_positives = weights @ (treated & positive[:, None]).astype(np.float64)
    false_positives = weights @ (treated & ~positive[:, None]).astype(np.float64)
    return (true_positives - false_positives * odds) / weights.sum(axis=1)[:, None]


def decision_curve(part: ResampledPredictions, positive: int) -> dict[str, Any]:
    """Return the decision curves of the model and of treating all. That of treating none is 0.

    Returns:
        `{"at": [...], "model": [M, ...], "all": [M, ...]}`, where M is a net benefit with its interval.
    """
    is_positive, scores = part.predictions.binary(positive)
    treated = scores[:, None] >= np.array(THRESHOLDS)
    curves: dict[str, Any] = {"at": list(THRESHOLDS)}
    for name, group in (("model", treated), ("all", np.ones_like(treated))):
        statistic = partial(net_benefit, is_positive, group, at=THRESHOLDS)
        curves[name] = part.estimate_columns(statistic, "no image")
    return curves

"""Overconfidence check: predictions on the target must not carry more information than was verified.

Two quantities in nats per image, with the temperature that calibrates the model on source validation images:

    predicted information on the target: H(mean p) - mean H(p), the mutual information between image and
        predicted label
    verified information on the source:  H(y) - mean(-log p(y | x)), a lower bound of that between image and
        true label

A method that trains on its own predictions becomes confident whether or not they are correct, so the first
exceeds the second.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import entr

from kerastl.evaluation.bootstrap import UNDEFINED, Statistic, make_estimate, no_interval_reason
from kerastl.evaluation.calibration import fit_temperature
from kerastl.selection.evidence import Array, Evidence, VerifiedInformation
from kerastl.tasks import SINGLE_LABEL

RESAMPLES = 500
LEVEL = 0.9
"""The check is one-sided, so an interval of 90% gives an error rate of 5%."""


def information(evidence: Evidence) -> tuple[float, float]:
    """Return the predicted information on the target and the verified information on the source."""
    predicted, verified = _statistics(evidence)
    return evidence.target.evaluate(predicted), evidence.known_val.evaluate(verified)


def check_overconfidence(evidence: Evidence, source_only: Evidence, *, seed: int) -> dict[str, Any]:
    """Return whether a candidate predicts more information than was verified.

    Args:
        evidence: Evidence of the candidate.
        source_only: Evidence of the model without adaptation. The larger of the two verified values counts,
            because a method that reads no source images may forget the source and still be good on the
            target.
        seed: Seed of the resampled patients, which are drawn separately in each domain.

    Returns:
        `predicted`, `verified`, `difference` ({value, low, high}, the interval of 90%) and `overconfident`:
        whether the interval is above 0. With fewer than 10 patients in a domain there is no interval, and
        `overconfident` is False.
    """
    predicted_of, verified_of = _statistics(evidence)
    _, source_only_verified_of = _statistics(source_only)

    def largest_verified(weights: Array) -> Array:
        return np.maximum(verified_of(weights), source_only_verified_of(weights))

    target = evidence.target.resample(seed=seed, resamples=RESAMPLES)
    val = evidence.known_val.resample(seed=seed + 1, resamples=RESAMPLES)
    predicted, verified = float(target.value(predicted_of)), float(val.value(largest_verified))
    difference = make_estimate(
        predicted - verified, target.values(predicted_of) - val.values(largest_verified), LEVEL,
        undefined=UNDEFINED, no_interval=no_interval_reason(min(target.groups, val.groups)),
    )  # fmt: skip
    return _result(predicted, verified, difference)


def check_overconfidence_without_source(
    evidence: Evidence, verified: VerifiedInformation, *, seed: int
) -> dict[str, Any]:
    """Return the same as `check_overconfidence` if the source images are not available.

    The interval of the difference combines two intervals of independent estimates: each end adds the squares
    of the distances (Zou & Donner 2008, doi:10.1002/sim.3095).

    Args:
        evidence: Evidence of the candidate.
        verified: What was verified for the model without adaptation.
        seed: Seed of the resampled target patients.
    """
    predicted_of = _predicted_information(evidence, verified.temperature)
    drawn = evidence.target.resample(seed=seed, resamples=RESAMPLES, level=LEVEL)
    estimate = drawn.estimate(predicted_of)
    predicted = estimate["value"]
    value = predicted - verified.value
    difference = estimate | {"value": value}
    if estimate["low"] is not None:
        high = verified.value if verified.high is None else verified.high
        low = verified.value if verified.low is None else verified.low
        difference["low"] = value - math.hypot(predicted - estimate["low"], high - verified.value)
        difference["high"] = value + math.hypot(estimate["high"] - predicted, verified.value - low)
    return _result(predicted, verified.value, difference)


def calibrate_on_source(evidence: Evidence) -> tuple[Array, float]:
    """Return the calibrated probabilities `[n, classes]` of source validation images, and the temperature."""
    val = evidence.known_val
    # No temperature is optimal if all predictions are correct or uninformative.
    temperature = fit_temperature(val.known_labels, val.logits) or 1.0
    return SINGLE_LABEL.probabilities(val.logits, temperature), temperature


def _result(predicted: float, verified: float, difference: dict[str, Any]) -> dict[str, Any]:
    low = difference["low"]
    return {
        "predicted": predicted,
        "verified": verified,
        "difference": difference,
        "overconfident": low is not None and low > 0,
    }


def _statistics(evidence: Evidence) -> tuple[Statistic, Statistic]:
    """Return the predicted and the verified information as functions of weights `[resamples, images]`."""
    labels = evidence.known_val.known_labels
    probabilities, temperature = calibrate_on_source(evidence)
    one_hot = np.eye(probabilities.shape[1])[labels]
    losses = -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], np.finfo(float).tiny))

    def verified(weights: Array) -> Array:
        weights = weights / weights.sum(axis=1, keepdims=True)
        return entr(weights @ one_hot).sum(axis=1) - weights @ losses

    return _predicted_information(evidence, temperature), verified


def _predicted_information(evidence: Evidence, temperature: float) -> Statistic:
    probabilities = SINGLE_LABEL.probabilities(evidence.target.logits, temperature)
    entropies = entr(probabilities).sum(axis=1)

    def predicted(weights: Array) -> Array:
        weights = weights / weights.sum(axis=1, keepdims=True)
        return entr(weights @ probabilities).sum(axis=1) - weights @ entropies

    return predicted

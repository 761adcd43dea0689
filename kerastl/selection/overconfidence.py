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

from kerastl.evaluation.bootstrap import Statistic, no_interval_reason, with_interval, without_interval
from kerastl.evaluation.calibration import fit_temperature, with_temperature
from kerastl.selection.evidence import Evidence, VerifiedInformation
from kerastl.tasks import SINGLE_LABEL

Array = np.ndarray[Any, Any]

LEVEL = 0.9
"""The check is one-sided, so an interval of 90% gives an error rate of 5%."""


def information(evidence: Evidence) -> tuple[float, float]:
    """Return the predicted information on the target and the verified information on the source."""
    predicted, verified = _statistics(evidence)
    return (
        _unweighted(predicted, len(evidence.target.logits)),
        _unweighted(verified, len(evidence.known_val.logits)),
    )


def check_overconfidence(
    evidence: Evidence, source_only: Evidence, *, seed: int, resamples: int = 500
) -> dict[str, Any]:
    """Return whether a candidate predicts more information than was verified.

    Args:
        evidence: Evidence of the candidate.
        source_only: Evidence of the model without adaptation. The larger of the two verified values counts,
            because a method that reads no source images may forget the source and still be good on the
            target.
        seed: Seed of the resampled patients, which are drawn separately in each domain.
        resamples: Number of resamples.

    Returns:
        `predicted`, `verified`, `difference` ({value, low, high}, the interval of 90%) and `overconfident`:
        whether the interval is above 0. With fewer than 10 patients in a domain there is no interval, and
        `overconfident` is False.
    """
    predicted_of, verified_of = _statistics(evidence)
    _, source_only_verified_of = _statistics(source_only)

    def largest_verified(weights: Array) -> Array:
        return np.maximum(verified_of(weights), source_only_verified_of(weights))

    target, val = evidence.target, evidence.known_val
    predicted = _unweighted(predicted_of, len(target.logits))
    verified = _unweighted(largest_verified, len(val.logits))
    fewest = min(len(set(target.units)), len(set(val.units)))
    if reason := no_interval_reason(fewest):
        return _result(predicted, verified, without_interval(predicted - verified, reason))
    resampled = target.resample(seed=seed, resamples=resamples).values(predicted_of)
    drawn_verified = val.resample(seed=seed + 1, resamples=resamples).values(largest_verified)
    return _result(
        predicted, verified, with_interval(predicted - verified, resampled - drawn_verified, LEVEL)
    )


def check_overconfidence_without_source(
    evidence: Evidence, verified: VerifiedInformation, *, seed: int, resamples: int = 500
) -> dict[str, Any]:
    """Return the same as `check_overconfidence` if the source images are not available.

    The interval of the difference combines two intervals of independent estimates: each end adds the squares
    of the distances (Zou & Donner 2008, doi:10.1002/sim.3095).

    Args:
        evidence: Evidence of the candidate.
        verified: What was verified for the model without adaptation.
        seed, resamples: Seed and number of resamples of target patients.
    """
    predicted_of, target = _predicted_information(evidence, verified.temperature), evidence.target
    predicted = _unweighted(predicted_of, len(target.logits))
    value = predicted - verified.value
    if reason := no_interval_reason(len(set(target.units))):
        return _result(predicted, verified.value, without_interval(value, reason))
    resampled = target.resample(seed=seed, resamples=resamples).values(predicted_of)
    estimate = with_interval(predicted, resampled, LEVEL)
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
    uncalibrated = SINGLE_LABEL.probabilities(val.logits)
    # No temperature is optimal if all predictions are correct or uninformative.
    temperature = fit_temperature(val.known_labels, uncalibrated) or 1.0
    return with_temperature(uncalibrated, temperature), temperature


def target_probabilities(evidence: Evidence, temperature: float) -> Array:
    """Return the probabilities `[m, classes]` of target images with a temperature."""
    return with_temperature(SINGLE_LABEL.probabilities(evidence.target.logits), temperature)


def _result(predicted: float, verified: float, difference: dict[str, Any]) -> dict[str, Any]:
    low = difference["low"]
    return {
        "predicted": predicted,
        "verified": verified,
        "difference": difference,
        "overconfident": low is not None and low > 0,
    }


def _unweighted(statistic: Statistic, images: int) -> float:
    """Return a statistic in which every image counts once."""
    return float(statistic(np.ones((1, images)))[0])


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
    probabilities = target_probabilities(evidence, temperature)
    entropies = entr(probabilities).sum(axis=1)

    def predicted(weights: Array) -> Array:
        weights = weights / weights.sum(axis=1, keepdims=True)
        return entr(weights @ probabilities).sum(axis=1) - weights @ entropies

    return predicted

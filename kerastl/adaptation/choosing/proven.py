"""Whether a candidate is surer of the target than its answers at the source were proven right.

Training on its own answers makes a model sure of them, right or wrong; a score that rewards sure answers then prefers the one
that went farthest astray. How much its answers may tell is known at the source, whose labels it did not learn from:

    proven  = H(y) - mean(-log p_T(y | x))      over the source's validation pictures
    claimed = H(mean p_T) - mean H(p_T)         over the target's pictures

both in nats a picture, with the temperature T that fits the source's validation pictures best. A model that carried over what it knows
claims about what is proven; one that carries over less claims less. One that claims more, beyond what resampled patients
explain, has no ground for it.

Reference:
    Both are the mutual information of picture and label, proven as in Kolchinsky & Tracey's cross-entropy bound; that a change
    in confidence tells a change in accuracy once it is calibrated: Guillory et al. 2021, arXiv:2107.03315 (difference of
    confidences). Temperature: Guo et al. 2017, arXiv:1706.04599.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import entr, softmax

from kerastl.adaptation.choosing.evidence import Evidence, Proven
from kerastl.evaluation.bootstrap import Figure, measured, resample, value_only, why_no_interval
from kerastl.evaluation.calibration import fit_temperature, with_temperature

Array = np.ndarray[Any, Any]

LEVEL = 0.9
"""One-sided 95 %: only too sure is asked for."""


def claimed_and_proven(evidence: Evidence) -> tuple[float, float]:
    """Return what the answers claim to tell of the target, and what they are proven to tell at the source, in nats a picture."""
    claims, proofs = _parts(evidence)
    return (
        _whole(claims, len(evidence.target.logits)),
        _whole(proofs, len(evidence.known_val.logits)),
    )


def surer_than_proven(
    evidence: Evidence, source_only: Evidence, *, seed: int, resamples: int = 500
) -> dict[str, Any]:
    """Return whether a candidate claims more than is proven, of it or of the model that it goes on from.

    Args:
        evidence: of the candidate.
        source_only: of the model that was not adapted: a method that reads no source picture may forget the source and be no
            worse for that at the target.
        seed: of resampled patients, drawn in each domain by itself.
        resamples: of the interval.

    Returns:
        `claimed`, `proven` (the greater of the two), `difference`: {value, low, high}, the interval of 90 %, and `surer`: whether
        it lies above 0. Fewer than 10 patients in a domain give no interval, and `surer` is False: nothing says that it is.
    """
    (claims, proofs), (_, firsts) = _parts(evidence), _parts(source_only)
    target, val = evidence.target, evidence.known_val
    claimed = _whole(claims, len(target.logits))
    proven = max(_whole(one, len(val.logits)) for one in (proofs, firsts))
    fewest = min(len(set(target.units)), len(set(val.units)))
    if reason := why_no_interval(fewest):
        return _told(claimed, proven, value_only(claimed - proven, reason))
    home = resample(
        val.units, [""] * len(val.units), val.known_labels, seed=seed + 1, resamples=resamples
    )
    known = np.maximum(home.values(proofs), home.values(firsts))
    apart = _claims_drawn(evidence, claims, seed, resamples) - known
    return _told(claimed, proven, measured(claimed - proven, apart, LEVEL))


def surer_than_told(
    evidence: Evidence, proven: Proven, *, seed: int, resamples: int = 500
) -> dict[str, Any]:
    """Return the same as `surer_than_proven` where the source's pictures are not at hand.

    What was proven there is taken as it was told, for every candidate. The interval of the difference is made of both intervals
    as of independent numbers (Zou & Donner 2008, doi:10.1002/sim.3095: each end adds the squares of the distances).

    Args:
        evidence: of the candidate.
        proven: of the model that was not adapted.
        seed, resamples: of patients of the target.
    """
    claims, target = _claims(evidence, proven.temperature), evidence.target
    claimed = _whole(claims, len(target.logits))
    apart = claimed - proven.information
    if reason := why_no_interval(len(set(target.units))):
        return _told(claimed, proven.information, value_only(apart, reason))
    found = measured(claimed, _claims_drawn(evidence, claims, seed, resamples), LEVEL)
    difference = found | {"value": apart}
    if found["low"] is not None:
        over = proven.information if proven.high is None else proven.high
        under = proven.information if proven.low is None else proven.low
        difference["low"] = apart - math.hypot(claimed - found["low"], over - proven.information)
        difference["high"] = apart + math.hypot(found["high"] - claimed, proven.information - under)
    return _told(claimed, proven.information, difference)


def _told(claimed: float, proven: float, difference: dict[str, Any]) -> dict[str, Any]:
    low = difference["low"]
    surer = low is not None and low > 0
    return {"claimed": claimed, "proven": proven, "difference": difference, "surer": surer}


def _whole(figure: Figure, pictures: int) -> float:
    """Return a figure of all pictures, each counted once."""
    return float(figure(np.ones((1, pictures)))[0])


def _claims_drawn(evidence: Evidence, claims: Figure, seed: int, resamples: int) -> Array:
    """Return what is claimed of resampled patients of the target, `[resamples]`."""
    target = evidence.target
    once = np.ones(len(target.logits))
    drawn = resample(target.units, [""] * len(once), once, seed=seed, resamples=resamples)
    return drawn.values(claims)


def _claims(evidence: Evidence, temperature: float) -> Figure:
    """Return what is claimed of the target, a figure of weights `[resamples, pictures]`."""
    there = at_target(evidence, temperature)
    doubts = entr(there).sum(axis=1)

    def claims(weights: Array) -> Array:
        weights = weights / weights.sum(axis=1, keepdims=True)
        found: Array = entr(weights @ there).sum(axis=1) - weights @ doubts
        return found

    return claims


def calibrated_at_source(evidence: Evidence) -> tuple[Array, float]:
    """Return the probabilities `[n, classes]` of the source's validation pictures at the temperature that fits them best, and it."""
    val = evidence.known_val
    as_learnt = softmax(val.logits.astype(np.float64), axis=1)
    # Where no temperature is best the answers are all right, or say nothing: as they are, they tell that.
    temperature = fit_temperature(val.known_labels, as_learnt) or 1.0
    return with_temperature(as_learnt, temperature), temperature


def at_target(evidence: Evidence, temperature: float) -> Array:
    """Return the probabilities `[m, classes]` of the target's pictures at a temperature."""
    logits = evidence.target.logits.astype(np.float64)
    return with_temperature(softmax(logits, axis=1), temperature)


def _parts(evidence: Evidence) -> tuple[Figure, Figure]:
    """Return two figures of weights `[resamples, pictures]`: what is claimed, and what is proven."""
    labels = evidence.known_val.known_labels
    at_home, temperature = calibrated_at_source(evidence)
    hits = np.eye(at_home.shape[1])[labels]
    losses = -np.log(np.maximum(at_home[np.arange(len(labels)), labels], np.finfo(float).tiny))

    def proofs(weights: Array) -> Array:
        weights = weights / weights.sum(axis=1, keepdims=True)
        found: Array = entr(weights @ hits).sum(axis=1) - weights @ losses
        return found

    return _claims(evidence, temperature), proofs

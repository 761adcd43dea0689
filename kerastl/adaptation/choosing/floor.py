"""How far a candidate may fall at the source: no farther than chance explains."""

from __future__ import annotations

from typing import Any

import numpy as np

from kerastl.adaptation.choosing.evidence import Evidence
from kerastl.evaluation.bootstrap import Figure, measured, resample, value_only, why_no_interval
from kerastl.evaluation.metrics import balanced_accuracy

NONE_IN = 3.0
"""The rule of three: where none of n patients was wrong, up to 3 in n may be (Hanley & Lippman-Hand 1983, 95 %)."""


def source_value(evidence: Evidence) -> float:
    """Return the balanced accuracy at the source's validation pictures."""
    return float(_figure(evidence)(np.ones((1, len(evidence.known_val.logits))))[0])


def source_floor(source_only: Evidence, *, seed: int, resamples: int = 1000) -> dict[str, Any]:
    """Return the balanced accuracy at the source that no candidate may lie below.

    It is the low end of source only's 95 % interval over resampled patients, and at most 1 - 3 / patients: a model without a
    mistake resamples to itself, and its interval is a point. Fewer than 10 patients give no interval; then a
    candidate must be at least as good as source only.

    Returns:
        `floor`, `rule` (what it is, in words) and `interval`: {value, low, high}.
    """
    val = source_only.known_val
    figure = _figure(source_only)
    value, patients = source_value(source_only), len(set(val.units))
    if reason := why_no_interval(patients):
        return {
            "floor": value,
            "rule": "source only's own, as too few patients tell how far chance reaches",
            "interval": value_only(value, reason),
        }
    drawn = resample(
        val.units, [""] * len(val.logits), val.known_labels, seed=seed, resamples=resamples
    )
    found = measured(value, drawn.values(figure), 0.95)
    low = value if found["low"] is None else found["low"]
    return {
        "floor": min(low, 1 - NONE_IN / patients),
        "rule": "the low end of source only's interval over patients",
        "interval": found,
    }


def _figure(evidence: Evidence) -> Figure:
    val = evidence.known_val
    # Answers alone count; logits stand for probabilities.
    return lambda weights: balanced_accuracy(val.known_labels, val.logits, weights)

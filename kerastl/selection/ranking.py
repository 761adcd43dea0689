"""Rank candidates by validators, and reject those that forgot the source or are overconfident."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import kendalltau, rankdata

from kerastl import registry
from kerastl.adaptation.method import SOURCE_ONLY
from kerastl.errors import RequestError
from kerastl.evaluation.bootstrap import (
    Statistic,
    no_interval_reason,
    single_threaded,
    with_interval,
    without_interval,
)
from kerastl.evaluation.metrics import balanced_accuracy
from kerastl.selection.evidence import SOURCE_UNAVAILABLE, Evidence, check_candidates
from kerastl.selection.overconfidence import check_overconfidence, check_overconfidence_without_source

RULE_OF_THREE = 3.0
"""If none of n patients is wrong, up to 3 / n may be, with 95% confidence (Hanley & Lippman-Hand 1983)."""
MIN_AGREEMENT = 0.5


def source_balanced_accuracy(evidence: Evidence) -> float:
    """Return the balanced accuracy on source validation images."""
    return float(_accuracy_statistic(evidence)(np.ones((1, len(evidence.known_val.logits))))[0])


def source_accuracy_floor(source_only: Evidence, *, seed: int, resamples: int = 1000) -> dict[str, Any]:
    """Return the balanced accuracy on the source below which candidates are rejected.

    It is the lower end of the 95% interval of `source_only` over resampled patients, and at most 1 - 3 /
    patients: the interval of a model without errors is a single point. With fewer than 10 patients there is
    no interval, and a candidate must be at least as good as `source_only`.

    Returns:
        `floor`, `rule` (a description) and `interval` ({value, low, high}).
    """
    val = source_only.known_val
    value, patients = source_balanced_accuracy(source_only), len(set(val.units))
    if reason := no_interval_reason(patients):
        return {
            "floor": value,
            "rule": "the value of source_only, because there are too few patients for an interval",
            "interval": without_interval(value, reason),
        }
    drawn = val.resample(seed=seed, resamples=resamples)
    estimate = with_interval(value, drawn.values(_accuracy_statistic(source_only)), 0.95)
    low = value if estimate["low"] is None else estimate["low"]
    return {
        "floor": min(low, 1 - RULE_OF_THREE / patients),
        "rule": "the lower end of the interval of source_only over patients",
        "interval": estimate,
    }


def _accuracy_statistic(evidence: Evidence) -> Statistic:
    val = evidence.known_val
    # Only the predicted class matters, so logits can replace probabilities.
    return lambda weights: balanced_accuracy(val.known_labels, val.logits, weights)


def prediction_agreement(evidence: Evidence) -> float | None:
    """Return Cohen's kappa of the initial and final target predictions; None if the initial ones are unknown.

    Identical predictions have a kappa of 1, even if all of them are one class.
    """
    from sklearn.metrics import cohen_kappa_score

    if evidence.initial_logits is None:
        return None
    initial, final = evidence.initial_logits.argmax(axis=1), evidence.target.logits.argmax(axis=1)
    if np.array_equal(initial, final):
        return 1.0
    return float(cohen_kappa_score(initial, final))


@dataclass(frozen=True)
class Ranking:
    """Candidates ordered by mean rank. A candidate is eligible if it is not rejected.

    Args:
        scores: Candidate to validator to score, of all candidates.
        ranks: Candidate to validator to rank, of eligible candidates; 1 is best, ties share their mean rank.
        mean_rank: Candidate to its mean rank over validators, of eligible candidates.
        rejected: Candidate to the reason why it is not eligible.
        order: Eligible candidates, best first.
        kendall_tau: `first / second` to the rank correlation of two validators over eligible candidates, -1
            to 1; None if one of them ranks all candidates equally.
        source: `balanced_accuracy` of each candidate on the source, and the result of
            `source_accuracy_floor`; `floor` is None if the source images are not available.
        overconfidence: Candidate to the result of `check_overconfidence`; empty if nothing was verified.
        prediction_agreement: Candidate to the agreement with its initial predictions; empty if the source
            images are available.
    """

    scores: Mapping[str, Mapping[str, float]]
    ranks: Mapping[str, Mapping[str, float]]
    mean_rank: Mapping[str, float]
    rejected: Mapping[str, str]
    order: tuple[str, ...]
    kendall_tau: Mapping[str, float | None]
    source: Mapping[str, Any]
    overconfidence: Mapping[str, Mapping[str, Any]]
    prediction_agreement: Mapping[str, float]

    @property
    def chosen(self) -> str:
        """The candidate with the best mean rank."""
        return self.order[0]

    @property
    def disagreement(self) -> dict[str, Any]:
        """Kendall's tau of each pair of validators, its mean, and the range of each candidate's ranks."""
        known = [tau for tau in self.kendall_tau.values() if tau is not None]
        spread = {name: max(ranks.values()) - min(ranks.values()) for name, ranks in self.ranks.items()}
        return {
            "kendall_tau": dict(self.kendall_tau),
            "mean_kendall_tau": sum(known) / len(known) if known else None,
            "rank_spread": spread,
        }


@single_threaded()
def rank(
    candidates: Mapping[str, Evidence],
    select_by: Sequence[str],
    *,
    options: Mapping[str, Any] | None = None,
    not_eligible: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Ranking:
    """Rank candidates by the mean rank over validators. `source_only` wins ties, then the first name.

    A candidate is rejected if its balanced accuracy on source validation images is below
    `source_accuracy_floor`, or if it is overconfident (`check_overconfidence`). If the source images are not
    available, overconfidence is checked against `Evidence.verified`, and a candidate is rejected if Cohen's
    kappa of its initial and final target predictions is below 0.5. Rejected candidates have scores but no
    ranks, so that they do not affect the others.

    Args:
        candidates: Name to evidence; one is `source_only`.
        select_by: Names of validators, at least one.
        options: Validator to its options; others use their defaults.
        not_eligible: Candidate to a reason, to reject more candidates; `source_only` is never rejected.
        seed: Seed of the resamples.

    Raises:
        RequestError: `source_only` is missing, a validator is unknown or lacks what it needs, or there is
            none.
    """
    check_candidates(candidates)
    validators = _validators(select_by, options or {})
    scores = {
        name: {
            label: _finite(label, name, validator.score(evidence)) for label, validator in validators.items()
        }
        for name, evidence in candidates.items()
    }
    has_source = candidates[SOURCE_ONLY].source_val is not None
    rejected, checks = (_check_with_source if has_source else _check_without_source)(candidates, seed)
    rejected |= {name: reason for name, reason in (not_eligible or {}).items() if name in candidates}
    rejected.pop(SOURCE_ONLY, None)
    eligible = sorted(set(candidates) - set(rejected))
    ranks = _ranks(scores, eligible, list(validators))
    means = {name: sum(ranks[name].values()) / len(validators) for name in eligible}
    order = sorted(eligible, key=lambda name: (means[name], name != SOURCE_ONLY, name))
    return Ranking(scores, ranks, means, rejected, tuple(order), _taus(ranks, list(validators)), **checks)


def _check_with_source(
    candidates: Mapping[str, Evidence], seed: int
) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the rejected candidates with reasons, and the fields of `Ranking` that hold what was checked."""
    source_only = candidates[SOURCE_ONLY]
    floor = source_accuracy_floor(source_only, seed=seed)
    accuracies = {name: source_balanced_accuracy(evidence) for name, evidence in candidates.items()}
    overconfidence = {
        name: check_overconfidence(evidence, source_only, seed=seed) for name, evidence in candidates.items()
    }
    rejected = _overconfident(overconfidence) | {
        name: (
            f"its balanced accuracy on the source, {accuracy:.3f}, is below {floor['floor']:.3f}, {floor['rule']}"
        )
        for name, accuracy in accuracies.items()
        if accuracy < floor["floor"]
    }
    return rejected, {
        "source": {"balanced_accuracy": accuracies} | floor,
        "overconfidence": overconfidence,
        "prediction_agreement": {},
    }


def _check_without_source(
    candidates: Mapping[str, Evidence], seed: int
) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the same as `_check_with_source` if the source images are not available."""
    verified = candidates[SOURCE_ONLY].verified
    overconfidence = {
        name: check_overconfidence_without_source(evidence, verified, seed=seed)
        for name, evidence in candidates.items()
        if verified is not None
    }
    agreements = {
        name: agreement
        for name, evidence in candidates.items()
        if (agreement := prediction_agreement(evidence)) is not None
    }
    rejected = _overconfident(overconfidence) | {
        name: (
            "its predictions disagree with its initial predictions: Cohen's kappa is "
            f"{agreement:.2f}, below {MIN_AGREEMENT}"
        )
        for name, agreement in agreements.items()
        if agreement < MIN_AGREEMENT
    }
    source: dict[str, Any] = {
        "balanced_accuracy": {},
        "floor": None,
        "rule": SOURCE_UNAVAILABLE,
        "interval": None,
    }
    return rejected, {"source": source, "overconfidence": overconfidence, "prediction_agreement": agreements}


def _overconfident(overconfidence: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return overconfident candidates with reasons."""
    return {
        name: (
            f"it is overconfident: its target predictions carry {result['predicted']:.2f} nats of information per image, "
            f"but only {result['verified']:.2f} were verified on the source"
        )
        for name, result in overconfidence.items()
        if result["overconfident"]
    }


def _validators(select_by: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    if not select_by or len(set(select_by)) < len(select_by):
        raise RequestError(
            f"select_by must name at least one validator, each once, got {list(select_by)}. "
            f"Available: {', '.join(registry.names('validator'))}."
        )
    if unknown := sorted(set(options) - set(select_by)):
        raise RequestError(f"There are options for '{unknown[0]}', which is not in select_by.")
    validators: dict[str, Any] = {}
    for name in select_by:
        module: Any = registry.module("validator", name)
        validator = module.VALIDATORS[name]
        validators[name] = validator.with_options(options[name]) if name in options else validator
    return validators


def _finite(validator: str, candidate: str, score: float) -> float:
    if not np.isfinite(score):
        raise RequestError(
            f"The score of {validator} for '{candidate}' is {score}. Remove {validator} from select_by."
        )
    return score


def _ranks(
    scores: Mapping[str, Mapping[str, float]], names: Sequence[str], validators: Sequence[str]
) -> dict[str, dict[str, float]]:
    columns = [rankdata([-scores[name][validator] for name in names]).tolist() for validator in validators]
    rows = zip(*columns, strict=True)
    return {name: dict(zip(validators, row, strict=True)) for name, row in zip(names, rows, strict=True)}


def _taus(ranks: Mapping[str, Mapping[str, float]], validators: Collection[str]) -> dict[str, float | None]:
    """Return Kendall's tau of each pair of validators."""
    taus: dict[str, float | None] = {}
    for first, second in combinations(validators, 2):
        columns = [[row[validator] for row in ranks.values()] for validator in (first, second)]
        is_constant = any(len(set(column)) == 1 for column in columns)
        taus[f"{first} / {second}"] = None if is_constant else float(kendalltau(*columns).statistic)
    return taus

"""Rank candidates by validators, and reject those that forgot the source or are overconfident."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import kendalltau, rankdata

from kerastl import registry
from kerastl.adaptation.method import SOURCE_ONLY
from kerastl.errors import RequestError
from kerastl.evaluation.bootstrap import MIN_GROUPS, Statistic, single_threaded
from kerastl.evaluation.metrics import balanced_accuracy
from kerastl.runs.schemas import CandidateRanking
from kerastl.selection.evidence import SOURCE_UNAVAILABLE, Evidence, check_candidates
from kerastl.selection.overconfidence import check_overconfidence, check_overconfidence_without_source

RULE_OF_THREE = 3.0
"""If none of n patients is wrong, up to 3 / n may be, with 95% confidence (Hanley & Lippman-Hand 1983)."""
MIN_AGREEMENT = 0.5
RESAMPLES = 1000
Checked = tuple[dict[str, str], dict[str, Any]]
"""The reason for each rejected candidate, and the field of `Ranking` with the results of the check."""


def source_balanced_accuracy(evidence: Evidence) -> float:
    """Return the balanced accuracy on source validation images."""
    return evidence.known_val.evaluate(_accuracy_statistic(evidence))


def source_accuracy_floor(source_only: Evidence, *, seed: int) -> dict[str, Any]:
    """Return the balanced accuracy on the source below which candidates are rejected.

    It is the lower end of the 95% interval of `source_only` over resampled patients, and at most 1 - 3 /
    patients: the interval of a model without errors is a single point. With fewer than 10 patients there is
    no interval, and a candidate must be at least as good as `source_only`.

    Returns:
        `floor`, `rule` (a description) and `interval` ({value, low, high}).
    """
    drawn = source_only.known_val.resample(seed=seed, resamples=RESAMPLES)
    estimate = drawn.estimate(_accuracy_statistic(source_only))
    floor = estimate["value"]
    rule = "the value of source_only, because there are too few patients for an interval"
    if drawn.groups >= MIN_GROUPS:
        low = floor if estimate["low"] is None else estimate["low"]
        floor = min(low, 1 - RULE_OF_THREE / drawn.groups)
        rule = "the lower end of the interval of source_only over patients"
    return {"floor": floor, "rule": rule, "interval": estimate}


def _accuracy_statistic(evidence: Evidence) -> Statistic:
    # Only the predicted class matters, so logits can replace probabilities.
    return partial(balanced_accuracy, evidence.known_val.known_labels, evidence.known_val.logits)


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


class Ranking(CandidateRanking):
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

    scores: dict[str, dict[str, float]]
    kendall_tau: dict[str, float | None]

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
            "kendall_tau": self.kendall_tau,
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
    options = options or {}
    validators = _validators(select_by, options)
    scores = {
        name: {
            label: _finite(label, name, validator.score(evidence, options.get(label)))
            for label, validator in validators.items()
        }
        for name, evidence in candidates.items()
    }
    overconfident, overconfidence = _check_confidence(candidates, seed)
    forgetful, source = _check_source(candidates, seed)
    changed, agreements = _check_agreement(candidates)
    not_eligible = {name: reason for name, reason in (not_eligible or {}).items() if name in candidates}
    rejected = overconfident | forgetful | changed | not_eligible
    rejected.pop(SOURCE_ONLY, None)
    eligible = sorted(set(candidates) - set(rejected))
    ranks = _ranks(scores, eligible, list(validators))
    means = {name: sum(ranks[name].values()) / len(validators) for name in eligible}
    order = sorted(eligible, key=lambda name: (means[name], name != SOURCE_ONLY, name))
    return Ranking(
        scores=scores, ranks=ranks, mean_rank=means, rejected=rejected, order=tuple(order),
        kendall_tau=_taus(ranks, list(validators)), source=source, overconfidence=overconfidence,
        prediction_agreement=agreements,
    )  # fmt: skip


def _check_confidence(candidates: Mapping[str, Evidence], seed: int) -> Checked:
    """Reject overconfident candidates, given what was verified on the source."""
    source_only = candidates[SOURCE_ONLY]
    if source_only.source_val is not None:
        check = partial(check_overconfidence, source_only=source_only, seed=seed)
    elif source_only.verified is not None:
        check = partial(check_overconfidence_without_source, verified=source_only.verified, seed=seed)
    else:
        return {}, {}
    overconfidence = {name: check(evidence) for name, evidence in candidates.items()}
    rejected = {
        name: (
            f"it is overconfident: its target predictions carry {result['predicted']:.2f} nats of information per image, "
            f"but only {result['verified']:.2f} were verified on the source"
        )
        for name, result in overconfidence.items()
        if result["overconfident"]
    }
    return rejected, overconfidence


def _check_source(candidates: Mapping[str, Evidence], seed: int) -> Checked:
    """Reject candidates that forgot the source."""
    source_only = candidates[SOURCE_ONLY]
    if source_only.source_val is None:
        return {}, {"balanced_accuracy": {}, "floor": None, "rule": SOURCE_UNAVAILABLE, "interval": None}
    floor = source_accuracy_floor(source_only, seed=seed)
    accuracies = {name: source_balanced_accuracy(evidence) for name, evidence in candidates.items()}
    rejected = {
        name: (
            f"its balanced accuracy on the source, {accuracy:.3f}, is below {floor['floor']:.3f}, {floor['rule']}"
        )
        for name, accuracy in accuracies.items()
        if accuracy < floor["floor"]
    }
    return rejected, {"balanced_accuracy": accuracies} | floor


def _check_agreement(candidates: Mapping[str, Evidence]) -> Checked:
    """Reject candidates that disagree with their initial predictions. Used if the source images are not available."""
    agreements = {
        name: agreement
        for name, evidence in candidates.items()
        if evidence.source_val is None and (agreement := prediction_agreement(evidence)) is not None
    }
    rejected = {
        name: (
            "its predictions disagree with its initial predictions: Cohen's kappa is "
            f"{agreement:.2f}, below {MIN_AGREEMENT}"
        )
        for name, agreement in agreements.items()
        if agreement < MIN_AGREEMENT
    }
    return rejected, agreements


def _validators(select_by: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    if not select_by or len(set(select_by)) < len(select_by):
        raise RequestError(
            f"select_by must name at least one validator, each once, got {list(select_by)}. "
            f"Available: {', '.join(registry.names('validator'))}."
        )
    if unknown := sorted(set(options) - set(select_by)):
        raise RequestError(f"There are options for '{unknown[0]}', which is not in select_by.")
    return {name: registry.module("validator", name).VALIDATORS[name] for name in select_by}


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

"""What several validators say of several candidates, and whom they choose together."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from scipy.special import entr, softmax

from kerastl import registry
from kerastl.adaptation.method import SOURCE_ONLY
from kerastl.errors import RequestError
from kerastl.evaluation.bootstrap import Statistic, with_interval, single_threaded, resample, without_interval, no_interval_reason
from kerastl.evaluation.calibration import fit_temperature, with_temperature
from kerastl.evaluation.metrics import balanced_accuracy
from kerastl.selection.evidence import NOT_AT_HAND, Evidence, Proven, check_candidates

NONE_IN = 3.0
"""The rule of three: where none of n patients was wrong, up to 3 in n may be (Hanley & Lippman-Hand 1983, 95 %)."""


def source_value(evidence: Evidence) -> float:
    """Return the balanced accuracy at the source's validation images."""
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
    if reason := no_interval_reason(patients):
        return {
            "floor": value,
            "rule": "source only's own, as too few patients tell how far chance reaches",
            "interval": without_interval(value, reason),
        }
    drawn = resample(val.units, [""] * len(val.logits), val.known_labels, seed=seed, resamples=resamples)
    found = with_interval(value, drawn.values(figure), 0.95)
    low = value if found["low"] is None else found["low"]
    return {
        "floor": min(low, 1 - NONE_IN / patients),
        "rule": "the low end of source only's interval over patients",
        "interval": found,
    }


def _figure(evidence: Evidence) -> Statistic:
    val = evidence.known_val
    # Answers alone count; logits stand for probabilities.
    return lambda weights: balanced_accuracy(val.known_labels, val.logits, weights)


Array = np.ndarray[Any, Any]

LEVEL = 0.9
"""One-sided 95 %: only too sure is asked for."""


def claimed_and_proven(evidence: Evidence) -> tuple[float, float]:
    """Return what the answers claim to tell of the target, and what they are proven to tell at the source, in nats an image."""
    claims, proofs = _parts(evidence)
    return (_whole(claims, len(evidence.target.logits)), _whole(proofs, len(evidence.known_val.logits)))


def surer_than_proven(
    evidence: Evidence, source_only: Evidence, *, seed: int, resamples: int = 500
) -> dict[str, Any]:
    """Return whether a candidate claims more than is proven, of it or of the model that it goes on from.

    Args:
        evidence: of the candidate.
        source_only: of the model that was not adapted: a method that reads no source image may forget the source and be no
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
    if reason := no_interval_reason(fewest):
        return _told(claimed, proven, without_interval(claimed - proven, reason))
    home = resample(val.units, [""] * len(val.units), val.known_labels, seed=seed + 1, resamples=resamples)
    known = np.maximum(home.values(proofs), home.values(firsts))
    apart = _claims_drawn(evidence, claims, seed, resamples) - known
    return _told(claimed, proven, with_interval(claimed - proven, apart, LEVEL))


def surer_than_told(evidence: Evidence, proven: Proven, *, seed: int, resamples: int = 500) -> dict[str, Any]:
    """Return the same as `surer_than_proven` where the source's images are not at hand.

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
    if reason := no_interval_reason(len(set(target.units))):
        return _told(claimed, proven.information, without_interval(apart, reason))
    found = with_interval(claimed, _claims_drawn(evidence, claims, seed, resamples), LEVEL)
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


def _whole(figure: Statistic, images: int) -> float:
    """Return a figure of all images, each counted once."""
    return float(figure(np.ones((1, images)))[0])


def _claims_drawn(evidence: Evidence, claims: Statistic, seed: int, resamples: int) -> Array:
    """Return what is claimed of resampled patients of the target, `[resamples]`."""
    target = evidence.target
    once = np.ones(len(target.logits))
    drawn = resample(target.units, [""] * len(once), once, seed=seed, resamples=resamples)
    return drawn.values(claims)


def _claims(evidence: Evidence, temperature: float) -> Statistic:
    """Return what is claimed of the target, a figure of weights `[resamples, images]`."""
    there = at_target(evidence, temperature)
    doubts = entr(there).sum(axis=1)

    def claims(weights: Array) -> Array:
        weights = weights / weights.sum(axis=1, keepdims=True)
        found: Array = entr(weights @ there).sum(axis=1) - weights @ doubts
        return found

    return claims


def calibrated_at_source(evidence: Evidence) -> tuple[Array, float]:
    """Return the probabilities `[n, classes]` of the source's validation images at the temperature that fits them best, and it."""
    val = evidence.known_val
    as_learnt = softmax(val.logits.astype(np.float64), axis=1)
    # Where no temperature is best the answers are all right, or say nothing: as they are, they tell that.
    temperature = fit_temperature(val.known_labels, as_learnt) or 1.0
    return with_temperature(as_learnt, temperature), temperature


def at_target(evidence: Evidence, temperature: float) -> Array:
    """Return the probabilities `[m, classes]` of the target's images at a temperature."""
    logits = evidence.target.logits.astype(np.float64)
    return with_temperature(softmax(logits, axis=1), temperature)


def _parts(evidence: Evidence) -> tuple[Statistic, Statistic]:
    """Return two figures of weights `[resamples, images]`: what is claimed, and what is proven."""
    labels = evidence.known_val.known_labels
    at_home, temperature = calibrated_at_source(evidence)
    hits = np.eye(at_home.shape[1])[labels]
    losses = -np.log(np.maximum(at_home[np.arange(len(labels)), labels], np.finfo(float).tiny))

    def proofs(weights: Array) -> Array:
        weights = weights / weights.sum(axis=1, keepdims=True)
        found: Array = entr(weights @ hits).sum(axis=1) - weights @ losses
        return found

    return _claims(evidence, temperature), proofs


LEAST_KEPT = 0.5


def answers_kept(evidence: Evidence) -> float | None:
    """Return Cohen's kappa of a candidate's answers on the target and those that it began with; None: these are not told.

    Where both are one class throughout, all are kept: 1.
    """
    from sklearn.metrics import cohen_kappa_score

    if evidence.began is None:
        return None
    first, last = (np.argmax(one, axis=1) for one in (evidence.began, evidence.target.logits))
    if np.array_equal(first, last):
        return 1.0
    return float(cohen_kappa_score(first, last))


def why_strayed(kept: float | None) -> str | None:
    """Return why a candidate may not be chosen for what it kept of its first answers; None: it may."""
    if kept is None or kept >= LEAST_KEPT:
        return None
    return (
        f"it strayed from the answers that it began with: they agree with its last ones by {kept:.2f} (Cohen's kappa), "
        f"below {LEAST_KEPT}"
    )


@dataclass(frozen=True)
class Ranking:
    """The candidates in the order of their mean rank.

    Args:
        scores: candidate to validator to score, of all candidates.
        ranks: candidate to validator to rank, 1 is best, ties share the mean of theirs; of those who may be chosen.
        mean_rank: candidate to the mean over validators; of those who may be chosen.
        refused: candidate to the reason why it may not be chosen.
        order: who may be chosen, best first.
        kendall_tau: `first / second` to how much two validators agree on those who may be chosen, -1 to 1; None: one of
            them ranks all alike.
        source: `value` (balanced accuracy of each candidate at the source) and `floor`, which none may lie below; nothing and
            None where the source's images are not at hand.
        proven: candidate to what its answers claim to tell of the target, and what is proven of them at the source;
            nothing where that is not known.
        kept: candidate to how much of the answers that it began with it kept; nothing where the source's images are at hand.
    """

    scores: Mapping[str, Mapping[str, float]]
    ranks: Mapping[str, Mapping[str, float]]
    mean_rank: Mapping[str, float]
    refused: Mapping[str, str]
    order: tuple[str, ...]
    kendall_tau: Mapping[str, float | None]
    source: Mapping[str, Any]
    proven: Mapping[str, Mapping[str, Any]]
    kept: Mapping[str, float]

    @property
    def chosen(self) -> str:
        """The candidate with the best mean rank."""
        return self.order[0]

    @property
    def disagreement(self) -> dict[str, Any]:
        """How far validators disagree: Kendall's tau of each pair, its mean, and each candidate's best and worst rank."""
        known = [tau for tau in self.kendall_tau.values() if tau is not None]
        spread = {name: max(one.values()) - min(one.values()) for name, one in self.ranks.items()}
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
    """Rank candidates by each validator; the best mean rank is chosen, of equal ones source only, then the first name.

    A candidate is refused when its balanced accuracy at the source's validation images lies below what chance explains of source only's
    (`floor.source_floor`): whatever it gained, it lost what it had learnt; and when it is surer of the target than its answers at the
    source were proven right (`proven.surer_than_proven`): it learnt to trust itself. Where the source's images are not at
    hand, the second is asked if what was proven there is told, and one that strayed from the answers that it began with is refused
    (`strayed.answers_kept`), if these are told. Refused ones get scores, but no ranks, so that they do not come between others.

    Args:
        candidates: name to evidence; `source_only` is among them.
        select_by: names of validators, at least one.
        options: validator to its options; others use their own.
        not_eligible: candidate to a reason, to refuse besides; source only is never refused.
        seed: of resamples.

    Raises:
        RequestError: source only is missing, no or an unknown validator is named, or one lacks what it needs.
    """
    check_candidates(candidates)
    judges = _validators(select_by, options or {})
    scores = {
        name: {label: _finite(label, name, one.score(evidence)) for label, one in judges.items()}
        for name, evidence in candidates.items()
    }
    at_source = _at_source(candidates, seed)
    refused = at_source.refused | {
        name: why for name, why in (not_eligible or {}).items() if name in candidates
    }
    refused.pop(SOURCE_ONLY, None)
    eligible = sorted(set(candidates) - set(refused))
    ranks = _ranks(scores, eligible, list(judges))
    means = {name: sum(ranks[name].values()) / len(judges) for name in eligible}
    order = sorted(eligible, key=lambda name: (means[name], name != SOURCE_ONLY, name))
    return Ranking(
        scores, ranks, means, refused, tuple(order), _taus(ranks, list(judges)), at_source.told,
        at_source.proven, at_source.kept,
    )  # fmt: skip


@dataclass(frozen=True)
class _AtSource:
    """What the source's images say of the candidates; nothing where they are not at hand.

    Args:
        told: `value`, `floor`, `rule` and `interval`.
        proven: of each candidate.
        refused: candidate to the reason.
        kept: of each candidate, where the images are not at hand.
    """

    told: dict[str, Any]
    proven: dict[str, dict[str, Any]]
    refused: dict[str, str]
    kept: dict[str, float] = field(default_factory=dict)


def _at_source(candidates: Mapping[str, Evidence], seed: int) -> _AtSource:
    first = candidates[SOURCE_ONLY]
    if first.source_val is None:
        return _without_source(candidates, seed)
    values = {name: source_value(evidence) for name, evidence in candidates.items()}
    floor = source_floor(first, seed=seed)
    proven = {name: surer_than_proven(one, first, seed=seed) for name, one in candidates.items()}
    refused = {
        name: why
        for name in candidates
        if (why := _why_refused(values[name], floor, proven[name])) is not None
    }
    return _AtSource({"value": values} | floor, proven, refused)


def _without_source(candidates: Mapping[str, Evidence], seed: int) -> _AtSource:
    told = candidates[SOURCE_ONLY].proven
    proven = {name: surer_than_told(one, told, seed=seed) for name, one in candidates.items() if told}
    known = {name: answers_kept(one) for name, one in candidates.items()}
    kept = {name: one for name, one in known.items() if one is not None}
    refused = {name: _surer(one) for name, one in proven.items() if one["surer"]}
    refused |= {name: why for name, one in kept.items() if (why := why_strayed(one)) is not None}
    no_value: dict[str, Any] = {"value": {}, "floor": None, "rule": NOT_AT_HAND, "interval": None}
    return _AtSource(no_value, proven, refused, kept)


def _why_refused(value: float, floor: Mapping[str, Any], proven: Mapping[str, Any]) -> str | None:
    """Return why a candidate may not be chosen, whatever its scores; None: it may."""
    if value < floor["floor"]:
        return (
            f"its balanced accuracy at the source, {value:.3f}, is below {floor['floor']:.3f}, "
            f"{floor['rule']}"
        )
    return _surer(proven) if proven["surer"] else None


def _surer(proven: Mapping[str, Any]) -> str:
    return (
        f"it is surer of the target than it has proved right at the source: its answers claim to tell "
        f"{proven['claimed']:.2f} nats an image, and {proven['proven']:.2f} are proven"
    )


def _validators(select_by: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    if not select_by or len(set(select_by)) < len(select_by):
        raise RequestError(
            f"select_by names each validator once, one at least, got {list(select_by)}. "
            f"Known: {', '.join(registry.names('validator'))}."
        )
    if unknown := sorted(set(options) - set(select_by)):
        raise RequestError(f"There are options for '{unknown[0]}', which select_by does not name.")
    found = {name: registry.module("validator", name).VALIDATOR for name in select_by}
    return {name: one.using(options[name]) if name in options else one for name, one in found.items()}


def _finite(validator: str, candidate: str, score: float) -> float:
    if not np.isfinite(score):
        raise RequestError(
            f"{validator} has no score for '{candidate}' ({score}). Leave {validator} out of select_by."
        )
    return score


def _ranks(
    scores: Mapping[str, Mapping[str, float]], names: Sequence[str], validators: Sequence[str]
) -> dict[str, dict[str, float]]:
    from scipy.stats import rankdata

    columns = {validator: rankdata([-scores[name][validator] for name in names]) for validator in validators}
    return {
        name: {validator: float(columns[validator][place]) for validator in validators}
        for place, name in enumerate(names)
    }


def _taus(ranks: Mapping[str, Mapping[str, float]], validators: Collection[str]) -> dict[str, float | None]:
    from scipy.stats import kendalltau

    found: dict[str, float | None] = {}
    for first, second in combinations(validators, 2):
        columns = [[one[validator] for one in ranks.values()] for validator in (first, second)]
        constant = any(len(set(column)) == 1 for column in columns)
        tau = None if constant else float(kendalltau(*columns).statistic)
        found[f"{first} / {second}"] = tau
    return found

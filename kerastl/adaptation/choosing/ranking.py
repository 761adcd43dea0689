"""What several validators say of several candidates, and whom they choose together."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from kerastl import registry
from kerastl.adaptation.choosing.evidence import NOT_AT_HAND, Evidence, check_candidates
from kerastl.adaptation.choosing.floor import source_floor, source_value
from kerastl.adaptation.choosing.proven import surer_than_proven, surer_than_told
from kerastl.adaptation.choosing.strayed import answers_kept, why_strayed
from kerastl.adaptation.method import SOURCE_ONLY
from kerastl.errors import RequestError
from kerastl.evaluation.bootstrap import one_thread

Array = np.ndarray[Any, Any]


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
            None where the source's pictures are not at hand.
        proven: candidate to what its answers claim to tell of the target, and what is proven of them at the source;
            nothing where that is not known.
        kept: candidate to how much of the answers that it began with it kept; nothing where the source's pictures are at hand.
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


@one_thread()
def rank(
    candidates: Mapping[str, Evidence],
    select_by: Sequence[str],
    *,
    options: Mapping[str, Any] | None = None,
    not_eligible: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Ranking:
    """Rank candidates by each validator; the best mean rank is chosen, of equal ones source only, then the first name.

    A candidate is refused when its balanced accuracy at the source's validation pictures lies below what chance explains of source only's
    (`floor.source_floor`): whatever it gained, it lost what it had learnt; and when it is surer of the target than its answers at the
    source were proven right (`proven.surer_than_proven`): it learnt to trust itself. Where the source's pictures are not at
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
    """What the source's pictures say of the candidates; nothing where they are not at hand.

    Args:
        told: `value`, `floor`, `rule` and `interval`.
        proven: of each candidate.
        refused: candidate to the reason.
        kept: of each candidate, where the pictures are not at hand.
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
    proven = {
        name: surer_than_told(one, told, seed=seed) for name, one in candidates.items() if told
    }
    known = {name: answers_kept(one) for name, one in candidates.items()}
    kept = {name: one for name, one in known.items() if one is not None}
    refused = {name: _surer(one) for name, one in proven.items() if one["surer"]}
    refused |= {name: why for name, one in kept.items() if (why := why_strayed(one)) is not None}
    nothing: dict[str, Any] = {"value": {}, "floor": None, "rule": NOT_AT_HAND, "interval": None}
    return _AtSource(nothing, proven, refused, kept)


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
        f"{proven['claimed']:.2f} nats a picture, and {proven['proven']:.2f} are proven"
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
    return {
        name: one.using(options[name]) if name in options else one for name, one in found.items()
    }


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

    columns = {
        validator: rankdata([-scores[name][validator] for name in names])
        for validator in validators
    }
    return {
        name: {validator: float(columns[validator][place]) for validator in validators}
        for place, name in enumerate(names)
    }


def _taus(
    ranks: Mapping[str, Mapping[str, float]], validators: Collection[str]
) -> dict[str, float | None]:
    from scipy.stats import kendalltau

    found: dict[str, float | None] = {}
    for first, second in combinations(validators, 2):
        columns = [[one[validator] for one in ranks.values()] for validator in (first, second)]
        constant = any(len(set(column)) == 1 for column in columns)
        tau = None if constant else float(kendalltau(*columns).statistic)
        found[f"{first} / {second}"] = tau
    return found

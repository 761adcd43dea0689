"""The decision to adapt, not to adapt, or that the data is inconclusive, made without target labels."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from kerastl.adaptation.method import SOURCE_ONLY
from kerastl.evaluation.bootstrap import MIN_GROUPS, round_numbers
from kerastl.selection.evidence import SOURCE_UNAVAILABLE, Evidence, check_candidates
from kerastl.selection.guards import Guard, evaluate_guards
from kerastl.selection.ranking import Ranking, rank

Verdict = Literal["adapt", "do_not_adapt", "cannot_tell"]


@dataclass(frozen=True)
class Decision:
    """The result of a selection, as plain data.

    Args:
        verdict: `adapt`, `do_not_adapt` or `cannot_tell`.
        chosen: the candidate to use; `source_only` unless the verdict is `adapt`.
        reason: one or two sentences.
        candidates: method to `{validators: {name: score}}`.
        ranking: `order`, `mean_rank`, `ranks`, `rejected`, `source`, `overconfidence` and
            `prediction_agreement`, as in `Ranking`.
        disagreement: `kendall_tau`, `mean_kendall_tau`, `rank_spread`.
        guards: name to `{fired, reason, measured}`.
    """

    verdict: Verdict
    chosen: str
    reason: str
    candidates: dict[str, Any]
    ranking: dict[str, Any]
    disagreement: dict[str, Any]
    guards: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the content of `adaptation.json`; `target_test` and `oracle` need labels and are None."""
        return asdict(self) | {"target_test": None, "oracle": None}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Decision:
        """Return the decision that `to_json` wrote, without what was added from labels."""
        return cls(**{name: content[name] for name in cls.__dataclass_fields__})


def decide(
    candidates: Mapping[str, Evidence],
    *,
    select_by: Sequence[str],
    assumes_equal_prevalence: Collection[str] = (),
    options: Mapping[str, Any] | None = None,
    renormalized: Evidence | None = None,
    seed: int = 0,
) -> Decision:
    """Choose a candidate, or decide that none should be used.

    An unknown class or too few patients are inconclusive. If a domain classifier does not separate the
    domains, there is nothing to adapt. If the prevalence differs, methods that assume equal prevalence are
    not eligible. Among the others, the mean rank over the validators decides. If the source images are not
    available, the guards are not available either, and the mean rank alone decides, given enough patients.

    Args:
        candidates: name to evidence, all on the same images; one is `source_only`.
        select_by: names of validators.
        assumes_equal_prevalence: names of candidates whose method aligns whole distributions or balances the
            target's classes.
        options: validator to its options.
        renormalized: evidence of `source_only` with the BatchNorm statistics of each domain; None without
            BatchNorm. The guards are repeated with it and with candidates that do not assume equal
            prevalence.
        seed: seed of the resamples.

    Raises:
        RequestError: As for `rank`.
    """
    check_candidates(candidates)
    adapted = [candidates[name] for name in sorted({*candidates} - {SOURCE_ONLY, *assumes_equal_prevalence})]
    source_only = candidates[SOURCE_ONLY]
    guards = evaluate_guards(source_only, renormalized=renormalized, adapted=adapted, seed=seed)
    not_eligible = {}
    if guards["other_prevalence"].fired:
        reason = "its method assumes equal class frequencies, but those of source and target differ"
        not_eligible = dict.fromkeys(assumes_equal_prevalence, reason)
    ranking = rank(candidates, select_by, options=options, not_eligible=not_eligible, seed=seed)
    if source_only.source_val is None:
        verdict, reason = _verdict_without_source(len(set(source_only.target.units)), ranking)
    else:
        verdict, reason = _verdict(guards, ranking)
    data = {
        "candidates": {name: {"validators": scores} for name, scores in ranking.scores.items()},
        "ranking": {
            "order": list(ranking.order),
            "mean_rank": ranking.mean_rank,
            "ranks": ranking.ranks,
            "rejected": ranking.rejected,
            "source": ranking.source,
            "overconfidence": ranking.overconfidence,
            "prediction_agreement": ranking.prediction_agreement,
        },
        "disagreement": ranking.disagreement,
        "guards": {name: guard.to_json() for name, guard in guards.items()},
    }
    chosen = ranking.chosen if verdict == "adapt" else SOURCE_ONLY
    return Decision(verdict, chosen, reason, **round_numbers(data))


def _verdict(guards: Mapping[str, Guard], ranking: Ranking) -> tuple[Verdict, str]:
    nothing_to_adapt, unknown_class = guards["nothing_to_adapt"], guards["unknown_class"]
    if unknown_class.fired:
        return "cannot_tell", (
            f"The target may contain a class that the model does not know: {unknown_class.reason}. Inspect some of these "
            "images before adapting."
        )
    if nothing_to_adapt.fired and guards["other_prevalence"].fired:
        return "do_not_adapt", (
            "The images of source and target do not differ, but the class frequencies do. Use the model without "
            "adaptation, and correct its probabilities for the prevalence."
        )
    if nothing_to_adapt.fired:
        return (
            "do_not_adapt",
            f"Nothing to adapt: {nothing_to_adapt.reason}. Use the model without adaptation.",
        )
    for guard in (nothing_to_adapt, unknown_class):
        if guard.fired is None:
            return "cannot_tell", f"Inconclusive: {guard.reason}. Collect more patients."
    if ranking.chosen == SOURCE_ONLY:
        rejected = f" ({len(ranking.rejected)} not eligible)" if ranking.rejected else ""
        return "do_not_adapt", (
            f"The domains differ, but no adapted model{rejected} ranks above the model without adaptation. Use the model "
            "without adaptation."
        )
    reason = nothing_to_adapt.reason
    doubts = _disagreement(ranking) or _rejected(ranking)
    return "adapt", f"{reason[0].upper()}{reason[1:]}, and {_best_rank(ranking)}{doubts}"


def _verdict_without_source(patients: int, ranking: Ranking) -> tuple[Verdict, str]:
    if patients < MIN_GROUPS:
        return "cannot_tell", (
            f"Inconclusive: {patients} target patients (at least {MIN_GROUPS} are needed). Collect more patients."
        )
    guards = f"The guards are not available, because {SOURCE_UNAVAILABLE}"
    if ranking.chosen == SOURCE_ONLY:
        return "do_not_adapt", (
            f"No adapted model ranks above the model without adaptation. Use the model without adaptation. {guards}."
        )
    return "adapt", (
        f"{_best_rank(ranking)}{_disagreement(ranking)}{_rejected(ranking)} {guards}: evaluate the model on a few labeled "
        "target patients before you use it."
    )


def _best_rank(ranking: Ranking) -> str:
    validators = len(next(iter(ranking.ranks.values())))
    return (
        f"'{ranking.chosen}' has the best mean rank, {ranking.mean_rank[ranking.chosen]:.1f} of "
        f"{len(ranking.order)}, over {validators} validator{'s'[: validators != 1]} (without adaptation: "
        f"{ranking.mean_rank[SOURCE_ONLY]:.1f})."
    )


def _rejected(ranking: Ranking) -> str:
    return f" Not eligible: {', '.join(sorted(ranking.rejected))}." if ranking.rejected else ""


def _disagreement(ranking: Ranking) -> str:
    tau = ranking.disagreement["mean_kendall_tau"]
    if tau is None or tau >= 0:
        return ""
    return f" The validators disagree (mean Kendall's tau {tau:.1f}), so evaluate it on labeled images."

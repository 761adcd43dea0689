"""Adapt, do not adapt, or cannot tell: decided without a label of the target, with the reason in plain words."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from kerastl.adaptation.method import SOURCE_ONLY
from kerastl.evaluation.bootstrap import FEWEST_GROUPS, plain
from kerastl.selection.evidence import NOT_AT_HAND, Evidence, check_candidates
from kerastl.selection.guards import Guard, guards_of
from kerastl.selection.ranking import Ranking, rank

Verdict = Literal["adapt", "do_not_adapt", "cannot_tell"]

"""Significant digits that are told: sums of more depend on how many threads a matrix product uses."""


@dataclass(frozen=True)
class Decision:
    """What was decided, as plain data throughout.

    Args:
        verdict: `adapt`, `do_not_adapt` or `cannot_tell`.
        chosen: the candidate to use; `source_only` unless the verdict is `adapt`.
        reason: one or two sentences.
        candidates: method to `{validators: {name: score}}`.
        ranking: `order`, `mean_rank`, `ranks`, `refused` (method to reason), `source` (the floor and who stands where),
            `proven` (what each claims to tell of the target, and what is proven at the source).
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
        """Return what `adaptation.json` holds; `target_test` and `oracle` need labels and are None."""
        return asdict(self) | {"target_test": None, "oracle": None}

    @classmethod
    def from_json(cls, read: Mapping[str, Any]) -> Decision:
        """Return the decision that `to_json` wrote; what labels added to the file is left out."""
        return cls(**{name: read[name] for name in cls.__dataclass_fields__})


def decide(
    candidates: Mapping[str, Evidence],
    *,
    select_by: Sequence[str],
    assumes_equal_prevalence: Collection[str] = (),
    options: Mapping[str, Any] | None = None,
    renormalised: Evidence | None = None,
    seed: int = 0,
) -> Decision:
    """Choose a candidate, or tell why none should be.

    In this order: a cluster far from every class cannot be judged; images that cannot be told apart leave nothing to adapt; too
    few patients cannot be judged; where prevalence differs, methods that assume it equal are not eligible; among the others
    the mean rank over the validators chooses. Where the source's images are not at hand, no guard can be asked, and the mean
    rank alone decides, if there are patients enough.

    Args:
        candidates: name to evidence, all on the same images; `source_only` is among them.
        select_by: names of validators.
        assumes_equal_prevalence: names of candidates whose method makes source and target alike as a whole, which moves classes
            onto each other where they are not alike common.
        options: validator to its options.
        renormalised: of the weights of `source_only`, BatchNorm's statistics at each domain being its own; None: there is no
            such network. Guards are asked again with it, and with candidates that assume no equal prevalence: see `guards_of`.
        seed: the same seed, the same bytes.

    Raises:
        RequestError: as `rank` does.
    """
    check_candidates(candidates)
    free = set(candidates) - {SOURCE_ONLY, *assumes_equal_prevalence}
    again = [candidates[name] for name in sorted(free)]
    guards = guards_of(candidates[SOURCE_ONLY], renormalised=renormalised, again=again, seed=seed)
    other = guards["other_prevalence"].fired
    reason = "it assumes that classes are as common at the target as at the source, and they are not"
    not_eligible = dict.fromkeys(assumes_equal_prevalence, reason) if other else {}
    ranking = rank(candidates, select_by, options=options, not_eligible=not_eligible, seed=seed)
    if candidates[SOURCE_ONLY].source_val is None:
        patients = len(set(candidates[SOURCE_ONLY].target.units))
        verdict, words = _verdict_without_source(patients, ranking)
    else:
        verdict, words = _verdict(guards, ranking)
    data = {
        "candidates": {name: {"validators": one} for name, one in ranking.scores.items()},
        "ranking": {
            "order": list(ranking.order),
            "mean_rank": ranking.mean_rank,
            "ranks": ranking.ranks,
            "refused": ranking.refused,
            "source": ranking.source,
            "proven": ranking.proven,
            "kept": ranking.kept,
        },
        "disagreement": ranking.disagreement,
        "guards": {name: guard.to_json() for name, guard in guards.items()},
    }
    chosen = ranking.chosen if verdict == "adapt" else SOURCE_ONLY
    return Decision(verdict, chosen, words, **plain(data))


def _verdict(guards: Mapping[str, Guard], ranking: Ranking) -> tuple[Verdict, str]:
    nothing, unknown = guards["nothing_to_adapt"], guards["unknown_class"]
    if unknown.fired:
        return "cannot_tell", (
            f"There may be a class that the model does not know: {unknown.reason}. Have a few of these images "
            "looked at before anything is adapted."
        )
    if nothing.fired and guards["other_prevalence"].fired:
        return "do_not_adapt", (
            "The target's images look like the source's, but classes are not as common there, and nothing else is found "
            "to adapt to. Use the model as it is, and correct its probabilities for the prevalence."
        )
    if nothing.fired:
        return "do_not_adapt", f"Nothing to adapt to: {nothing.reason}. Use the model as it is."
    for guard in (nothing, unknown):
        if guard.fired is None:
            return "cannot_tell", f"It cannot be decided: {guard.reason}. Collect more patients."
    if ranking.chosen == SOURCE_ONLY:
        left_out = f" ({len(ranking.refused)} not eligible)" if ranking.refused else ""
        return "do_not_adapt", (
            f"The images differ, but no adapted model{left_out} ranks above the one that was not adapted. Use the "
            "model as it is."
        )
    return "adapt", _why_adapt(guards, ranking)


def _verdict_without_source(patients: int, ranking: Ranking) -> tuple[Verdict, str]:
    if patients < FEWEST_GROUPS:
        return "cannot_tell", (
            f"It cannot be decided: {patients} patients of the target are fewer than {FEWEST_GROUPS}. Collect more "
            "patients."
        )
    if ranking.chosen == SOURCE_ONLY:
        return "do_not_adapt", (
            "No adapted model ranks above the one that was not adapted. Use the model as it is. No guard could be "
            f"asked, as {NOT_AT_HAND}."
        )
    return "adapt", (
        f"{_best_rank(ranking)}{_disagree(ranking)}{_not_eligible(ranking)} But {NOT_AT_HAND}, so that no guard could be asked whether there "
        "is anything to adapt to, whether classes are as common at the target, and whether it has one that the model "
        "does not know: look at a few labelled patients of the target before you use it."
    )


def _best_rank(ranking: Ranking) -> str:
    judges = len(next(iter(ranking.ranks.values())))
    return (
        f"'{ranking.chosen}' has the best mean rank, {ranking.mean_rank[ranking.chosen]:.1f} of "
        f"{len(ranking.order)} over {judges} validator{'s' if judges > 1 else ''} (not adapted: "
        f"{ranking.mean_rank[SOURCE_ONLY]:.1f})."
    )


def _why_adapt(guards: Mapping[str, Guard], ranking: Ranking) -> str:
    found = guards["nothing_to_adapt"].reason
    text = f"{found[0].upper()}{found[1:]}, and {_best_rank(ranking)}"
    if doubt := _disagree(ranking):
        text += doubt
    else:
        text += _not_eligible(ranking)
    return text


def _not_eligible(ranking: Ranking) -> str:
    return f" Not eligible: {', '.join(sorted(ranking.refused))}." if ranking.refused else ""


def _disagree(ranking: Ranking) -> str:
    tau = ranking.disagreement["mean_kendall_tau"]
    if tau is None or tau >= 0:
        return ""
    return f" The validators disagree (mean Kendall tau {tau:.1f}), so check it on labelled images."

"""The decision to adapt, not to adapt, or that the data is inconclusive, made without target labels.

Three guards are evaluated before the candidates are ranked: nothing to adapt, an unknown class, another
prevalence.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import entr

from kerastl.adaptation.method import SOURCE_ONLY
from kerastl.errors import pluralize
from kerastl.evaluation.bootstrap import MIN_GROUPS, Resamples, round_numbers, single_threaded
from kerastl.evaluation.label_shift import PrevalenceEstimate, estimate_prevalence, resample_prevalence
from kerastl.runs.schemas import Adaptation, CandidateRanking, Verdict
from kerastl.selection import open_set
from kerastl.selection.domain_classifier import domain_auc, is_above_chance, prevalence_weights
from kerastl.selection.evidence import SOURCE_UNAVAILABLE, Array, Evidence, check_candidates
from kerastl.selection.overconfidence import calibrate_on_source
from kerastl.selection.ranking import Ranking, rank
from kerastl.tasks import SINGLE_LABEL

TASKS = (SINGLE_LABEL,)
"""The tasks that this package supports."""

RESAMPLES = 100
MAX_ENTROPY_INCREASE = 0.1
"""Largest increase of the normalized entropy with which predictions can estimate the prevalence."""


@dataclass(frozen=True)
class Guard:
    """One condition under which a selection is not reliable.

    Args:
        fired: Whether the condition holds; None if inconclusive.
        reason: A clause for messages.
        measured: The values behind it.
    """

    fired: bool | None
    reason: str
    measured: dict[str, Any]

    def confirm(self, earlier: Guard) -> Guard:
        """Return this guard, evaluated with another model, limited to what both models agree on.

        If the guard names less or more frequent classes, only those that `earlier` named count: a model that
        is confused names other classes each time.
        """
        measured = {**self.measured, "earlier": earlier.measured}
        if not self.fired or "less_frequent" not in measured:
            return Guard(self.fired, self.reason, measured)
        common = {
            side: [name for name in measured[side] if name in earlier.measured[side]]
            for side in ("less_frequent", "more_frequent")
        }
        if any(common.values()):
            return Guard(True, self.reason, measured | common)
        return Guard(False, "no class is less or more frequent according to all models", measured | common)


@single_threaded()
def evaluate_guards(
    source_only: Evidence,
    *,
    renormalized: Evidence | None = None,
    adapted: Sequence[Evidence] = (),
    seed: int,
) -> dict[str, Guard]:
    """Return the guards `nothing_to_adapt`, `unknown_class` and `other_prevalence`.

    If the source images are not available, all are inconclusive. The source is represented by its validation
    images, because a model is more confident on its training images.

    Args:
        source_only: Evidence of the model without adaptation.
        renormalized: Evidence of the same weights with the BatchNorm statistics of each domain; None without
            BatchNorm.
        adapted: Evidence of models that compensate a uniform scanner shift, as `renormalized` does, but do
            not align whole distributions. The last two guards fire only if they fire for each of these
            models: an unknown class or another prevalence remains visible.
        seed: Seed of the resamples.
    """
    if source_only.source_val is None:
        unavailable = Guard(None, SOURCE_UNAVAILABLE, {})
        return dict.fromkeys(("nothing_to_adapt", "unknown_class", "other_prevalence"), unavailable)
    unadapted = [source_only] if renormalized is None else [source_only, renormalized]
    first = guards = _class_guards(source_only, seed)
    for evidence in (*unadapted[1:], *adapted):
        if not any(guard.fired for guard in guards.values()):
            break
        repeated = _class_guards(evidence, seed)
        guards = {
            name: repeated[name].confirm(guard) if guard.fired else guard for name, guard in guards.items()
        }
    guards["other_prevalence"] = _require_known_classes(guards["other_prevalence"], unadapted)
    prevalence = first["other_prevalence"].measured
    return {"nothing_to_adapt": _nothing_to_adapt(source_only, prevalence, seed), **guards}


def normalized_entropy(evidence: Evidence) -> dict[str, float]:
    """Return the conditional entropy of predictions divided by that of their mean, by domain, 0 to 1."""
    source, temperature = calibrate_on_source(evidence)
    domains = {"source": source, "target": SINGLE_LABEL.probabilities(evidence.target.logits, temperature)}
    ratios = {}
    for name, probabilities in domains.items():
        marginal = entr(probabilities.mean(axis=0)).sum()
        conditional = entr(probabilities).sum(axis=1).mean()
        ratios[name] = float(conditional / marginal) if marginal > 0 else 0.0
    return ratios


def _require_known_classes(guard: Guard, unadapted: Sequence[Evidence]) -> Guard:
    """Return a prevalence guard, inconclusive if no unadapted model recognizes the target's classes.

    A model trained on its own predictions is confident whether or not they are correct, so it is not
    considered.
    """
    if not guard.fired:
        return guard
    entropies = min(
        map(normalized_entropy, unadapted), key=lambda ratios: ratios["target"] - ratios["source"]
    )
    measured = guard.measured | {"normalized_entropy": entropies}
    if entropies["target"] - entropies["source"] <= MAX_ENTROPY_INCREASE:
        return Guard(True, guard.reason, measured)
    reason = (
        "the prevalence on the target cannot be estimated, because the normalized entropy of the predictions is "
        f"{entropies['target']:.0%} there and {entropies['source']:.0%} on the source"
    )
    return Guard(None, reason, measured)


def _class_guards(evidence: Evidence, seed: int) -> dict[str, Guard]:
    """Return the guards that depend on the positions of the target's classes."""
    val = evidence.known_val
    space = open_set.class_space(val.features, val.known_labels, evidence.target.features)
    unknown = open_set.detect_unknown_class(val, evidence.target, space, seed=seed)
    return {
        "unknown_class": Guard(unknown["detected"], open_set.explain_unknown_class(unknown), unknown),
        "other_prevalence": _other_prevalence(evidence, space, seed),
    }


def _nothing_to_adapt(source_only: Evidence, prevalence: Mapping[str, Any], seed: int) -> Guard:
    val, target = source_only.known_val, source_only.target
    sides = (val.features, target.features, val.units, target.units)
    auc = domain_auc(*sides, seed=seed)
    if auc["low"] is None:
        counts = {"source validation": len(set(val.units)), "target": len(set(target.units))}
        domain = min(counts, key=lambda name: counts[name])
        reason = f"a domain shift cannot be tested ({auc['reason']})"
        if counts[domain] < MIN_GROUPS:
            reason = f"{counts[domain]} {domain} patients (at least {MIN_GROUPS} are needed to test for a domain shift)"
        return Guard(None, reason, auc)
    if not is_above_chance(auc):
        reason = f"the domain classifier does not separate source and target ({_describe(auc)})"
        return Guard(True, reason, auc)
    if prevalence["differs"]:
        weights = prevalence_weights(val.known_labels, prevalence["source"], prevalence["em"]["value"])
        weighted = domain_auc(*sides, weights_a=weights, seed=seed)
        auc = auc | {"weighted": weighted}
        if is_above_chance(weighted) is False:
            reason = (
                "the domain classifier does not separate source and target after weighting the source by the "
                f"prevalence of the target ({_describe(weighted)}; without weights: {_describe(auc)})"
            )
            return Guard(True, reason, auc)
    return Guard(False, f"the domain classifier separates source and target ({_describe(auc)})", auc)


def _describe(auc: Mapping[str, Any]) -> str:
    return f"AUC {auc['value']:.2f}, interval {auc['low']:.2f} to {auc['high']:.2f}"


def _other_prevalence(evidence: Evidence, space: open_set.ClassSpace, seed: int) -> Guard:
    """Return whether the prevalence of some class differs between source and target.

    Estimates from predictions (EM, BBSE) assume that only the prevalence changed. Another scanner shifts
    predictions toward a class, which looks like prevalence. EM therefore counts only if a domain classifier
    does not separate the target from the source images weighted by the new prevalence. Otherwise, a
    location-scale model shifts the source's classes together to fit the target. Its prevalence must differ
    beyond the interval, and BBSE, which ignores positions, must agree for the class: if a shift moves two
    classes onto each other, one seems absent and the other more frequent.

    Args:
        evidence: Evidence of one model.
        space: The features of the same model.
        seed: Seed of resamples and folds.

    Returns:
        A guard. Its measured values are `differs` (None: inconclusive), `less_frequent` and `more_frequent` (class names),
        `source` (prevalence), `em`, `bbse` and `location_scale` (`value`, `low`, `high`: a list over classes;
        None if unknown), and `remaining_shift`: the AUC of the domain classifier after weighting.
    """
    val, target = evidence.known_val, evidence.target
    draws = (
        val.resample(seed=seed, resamples=RESAMPLES),
        target.resample(seed=seed + 1, resamples=RESAMPLES),
    )
    em, bbse = (
        estimate_prevalence(val.known_labels, val.logits, target.logits, *draws, method=method)
        for method in ("em", "bbse")
    )
    location_scale = _location_scale_prevalence(space, *draws)
    estimates = {"em": em, "bbse": bbse, "location_scale": location_scale}
    measured: dict[str, Any] = {"differs": None, "source": em.source.tolist(), "remaining_shift": None}
    measured |= {name: _to_json(estimate) for name, estimate in estimates.items()}
    if em.differs is None:
        reason = f"the prevalence on the target cannot be estimated: {em.reason}"
        return Guard(None, reason, measured | {"less_frequent": [], "more_frequent": []})
    signs = location_scale.signs
    if bbse.differs is not None:
        signs = np.where(signs == bbse.signs, signs, 0)
    if em.differs:
        remaining = measured["remaining_shift"] = _remaining_shift(evidence, space, em, seed)
        if is_above_chance(remaining) is False:
            signs = np.where(signs != 0, signs, em.signs)
    less, more = (
        [name for name, sign in zip(evidence.class_names, signs, strict=True) if sign == wanted]
        for wanted in (-1, 1)
    )
    measured |= {"differs": bool(less or more), "less_frequent": less, "more_frequent": more}
    if less or more:
        return Guard(True, "the class frequencies of source and target differ", measured)
    return Guard(False, "the class frequencies of source and target do not differ significantly", measured)


def _remaining_shift(
    evidence: Evidence, space: open_set.ClassSpace, em: PrevalenceEstimate, seed: int
) -> dict[str, Any]:
    """Return the AUC of the domain classifier after weighting the source images by the prevalence of the target."""
    # Weights can match the means of a shifted target, which a linear classifier compares, but not the squares.
    source, target = (np.hstack([side, side**2]) for side in (space.source, space.target))
    weights = prevalence_weights(space.labels, em.source, em.value)
    units = evidence.known_val.units, evidence.target.units
    return domain_auc(source, target, *units, weights_a=weights, seed=seed)


def _location_scale_prevalence(
    space: open_set.ClassSpace, source_draws: Resamples, target_draws: Resamples
) -> PrevalenceEstimate:
    """Return the prevalence of the location-scale model."""

    def refit(weights: Array, target_weights: Array) -> Array:
        starts = [replace(space.mixture, means=open_set.class_means(space.source, space.labels, weights))]
        return open_set.fit_shifted_mixture(space.target, starts, target_weights).shares

    intervals = resample_prevalence(refit, space.labels, source_draws, target_draws)
    return PrevalenceEstimate(space.starts[0].shares, space.mixture.shares, *intervals, reason="")


def _to_json(estimate: PrevalenceEstimate) -> dict[str, Any]:
    data: dict[str, Any] = {
        name: [None if np.isnan(number) else float(number) for number in getattr(estimate, name)]
        for name in ("value", "low", "high")
    }
    return data | ({"reason": estimate.reason} if estimate.reason else {})


def decide(
    candidates: Mapping[str, Evidence],
    *,
    select_by: Sequence[str],
    assumes_equal_prevalence: Collection[str] = (),
    options: Mapping[str, Any] | None = None,
    renormalized: Evidence | None = None,
    seed: int = 0,
) -> Adaptation:
    """Choose a candidate, or decide that none should be used.

    An unknown class or too few patients are inconclusive. If a domain classifier does not separate the
    domains, there is nothing to adapt. If the prevalence differs, methods that assume equal prevalence are
    not eligible. Among the others, the mean rank over the validators decides. If the source images are not
    available, the guards are not available either, and the mean rank alone decides, given enough patients.

    Args:
        candidates: Name to evidence, all on the same images; one is `source_only`.
        select_by: Names of validators.
        assumes_equal_prevalence: Names of candidates whose method aligns whole distributions or balances the
            target's classes.
        options: Validator to its options.
        renormalized: Evidence of `source_only` with the BatchNorm statistics of each domain; None without
            BatchNorm. The guards are repeated with it and with candidates that do not assume equal
            prevalence.
        seed: Seed of the resamples.

    Raises:
        RequestError: As for `rank`.
    """
    check_candidates(candidates)
    adapted = [candidates[name] for name in sorted({*candidates} - {SOURCE_ONLY, *assumes_equal_prevalence})]
    source_only = candidates[SOURCE_ONLY]
    guards = evaluate_guards(source_only, renormalized=renormalized, adapted=adapted, seed=seed)
    reason = "its method assumes equal class frequencies, but those of source and target differ"
    not_eligible = dict.fromkeys(assumes_equal_prevalence if guards["other_prevalence"].fired else (), reason)
    ranking = rank(candidates, select_by, options=options, not_eligible=not_eligible, seed=seed)
    if source_only.source_val is None:
        verdict, reason = _verdict_without_source(len(set(source_only.target.units)), ranking)
    else:
        verdict, reason = _verdict(guards, ranking)
    data = {
        "candidates": {name: {"validators": scores} for name, scores in ranking.scores.items()},
        "ranking": {name: getattr(ranking, name) for name in CandidateRanking.model_fields},
        "disagreement": ranking.disagreement,
        "guards": {name: vars(guard) for name, guard in guards.items()},
    }
    chosen = ranking.chosen if verdict == "adapt" else SOURCE_ONLY
    return Adaptation(
        verdict=verdict, chosen=chosen, reason=reason, target_test=None, oracle=None, **round_numbers(data)
    )


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
        f"{len(ranking.order)}, over {pluralize(validators, 'validator')} (without adaptation: "
        f"{ranking.mean_rank[SOURCE_ONLY]:.1f})."
    )


def _rejected(ranking: Ranking) -> str:
    return f" Not eligible: {', '.join(sorted(ranking.rejected))}." if ranking.rejected else ""


def _disagreement(ranking: Ranking) -> str:
    tau = ranking.disagreement["mean_kendall_tau"]
    if tau is None or tau >= 0:
        return ""
    return f" The validators disagree (mean Kendall's tau {tau:.1f}), so evaluate it on labeled images."

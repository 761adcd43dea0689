"""Guards before a selection: nothing to adapt, an unknown class, another prevalence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import entr

from kerastl.evaluation.bootstrap import MIN_GROUPS, interval, resample, single_threaded
from kerastl.evaluation.label_shift import PrevalenceEstimate, estimate_prevalence
from kerastl.selection.domain_classifier import domain_auc, is_above_chance, prevalence_weights
from kerastl.selection.evidence import SOURCE_UNAVAILABLE, Evidence
from kerastl.selection.open_set import (
    ClassSpace,
    class_space,
    detect_unknown_class,
    explain_no_unknown_class,
    fit_shifted_mixture,
    initial_mixtures,
)
from kerastl.selection.overconfidence import calibrate_on_source, target_probabilities

Array = np.ndarray[Any, Any]

RESAMPLES = 100
LEVEL = 0.95
GUARDS = ("nothing_to_adapt", "unknown_class", "other_prevalence")
MAX_ENTROPY_INCREASE = 0.1
"""Largest increase of the normalized entropy with which predictions can estimate the prevalence."""


@dataclass(frozen=True)
class Guard:
    """One condition under which a selection is not reliable.

    Args:
        fired: whether the condition holds; None if inconclusive.
        reason: a clause for messages.
        measured: the values behind it.
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

    def to_json(self) -> dict[str, Any]:
        """Return the guard as plain data."""
        return {"fired": self.fired, "reason": self.reason, "measured": self.measured}


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
        source_only: evidence of the model without adaptation.
        renormalized: evidence of the same weights with the BatchNorm statistics of each domain; None without
            BatchNorm.
        adapted: evidence of models that compensate a uniform scanner shift, as `renormalized` does, but do
            not align whole distributions. The last two guards fire only if they fire for each of these
            models: an unknown class or another prevalence remains visible.
        seed: seed of the resamples.
    """
    if source_only.source_val is None:
        return {name: Guard(None, SOURCE_UNAVAILABLE, {}) for name in GUARDS}
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
    domains = {"source": source, "target": target_probabilities(evidence, temperature)}
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
    space = class_space(val.features, val.known_labels, evidence.target.features)
    return {
        "unknown_class": _unknown_class(evidence, space, seed),
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
        return Guard(
            True, f"the domain classifier does not separate source and target ({_describe(auc)})", auc
        )
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


def _unknown_class(evidence: Evidence, space: ClassSpace, seed: int) -> Guard:
    result = detect_unknown_class(evidence.known_val, evidence.target, space, seed=seed)
    if result["detected"] is None:
        reason = f"at least {MIN_GROUPS} target patients are needed to detect an unknown class"
        return Guard(None, reason, result)
    if not result["detected"]:
        return Guard(False, explain_no_unknown_class(result), result)
    reason = (
        f"{result['share']:.0%} of the target images form a cluster at a distance of {result['distance']:.1f} "
        "within-class standard deviations from every source class"
    )
    return Guard(True, reason, result)


def _other_prevalence(evidence: Evidence, space: ClassSpace, seed: int) -> Guard:
    result = compare_prevalence(evidence, space, seed=seed)
    if result["differs"] is None:
        reason = "the prevalence on the target cannot be estimated"
        cause = result["em"].get("reason")
        return Guard(None, f"{reason} ({cause})" if cause else reason, result)
    if result["differs"]:
        return Guard(True, "the class frequencies of source and target differ", result)
    return Guard(False, "the class frequencies of source and target do not differ significantly", result)


def compare_prevalence(evidence: Evidence, space: ClassSpace, *, seed: int) -> dict[str, Any]:
    """Return whether the prevalence of some class differs between source and target.

    Estimates from predictions (EM, BBSE) assume that only the prevalence changed. Another scanner shifts
    predictions towards a class, which looks like prevalence. EM therefore counts only if a domain classifier
    does not separate the target from the source images weighted by the new prevalence. Otherwise, a
    location-scale model shifts the source's classes together to fit the target.
    Its prevalence must differ beyond the interval, and BBSE, which ignores positions, must agree for the
        class: if a shift moves two
    classes onto each other, one seems absent and the other more frequent.

    Args:
        evidence: evidence of one model.
        space: the features of the same model.
        seed: seed of resamples and folds.

    Returns:
        `differs` (None: inconclusive), `less_frequent` and `more_frequent` (class names), `source`
        (prevalence), `em`, `bbse` and `location_scale` (`value`, `low`, `high`: a list over classes; None if
        unknown), and `remaining_shift`: the AUC of the domain classifier after weighting.
    """
    val, target = evidence.known_val, evidence.target
    em, bbse = (
        estimate_prevalence(
            val.known_labels, val.logits, target.logits, method=method,
            source_units=val.units, target_units=target.units, seed=seed, resamples=RESAMPLES,
        )
        for method in ("em", "bbse")
    )  # fmt: skip
    location_scale, signs = _location_scale_prevalence(evidence, space, seed)
    if not np.isnan(bbse.gap_low).any():
        signs = np.where(signs == _signs(bbse), signs, 0)
    result = {
        "differs": em.differs,
        "source": em.source.tolist(),
        "em": _to_json(em),
        "bbse": _to_json(bbse),
        "location_scale": location_scale,
        "remaining_shift": None,
        "less_frequent": [],
        "more_frequent": [],
    }
    if em.differs is None:
        return result
    if em.differs:
        # Weights can match the means of a shifted target, which a linear classifier compares, but not the squares.
        source_places, target_places = (np.hstack([side, side**2]) for side in (space.source, space.target))
        weights = prevalence_weights(val.known_labels, em.source, em.value)
        remaining = domain_auc(
            source_places, target_places, val.units, target.units, weights_a=weights, seed=seed
        )
        result["remaining_shift"] = remaining
        if is_above_chance(remaining) is False:
            signs = np.where(signs != 0, signs, _signs(em))
    less, more = (
        [name for name, sign in zip(evidence.class_names, signs, strict=True) if sign == wanted]
        for wanted in (-1, 1)
    )
    return result | {"differs": bool(less or more), "less_frequent": less, "more_frequent": more}


def _signs(estimate: PrevalenceEstimate) -> Array:
    """Return `[classes]` int: -1 if less frequent on the target, 1 if more frequent, 0 if not significant."""
    signs: Array = (estimate.gap_low > 0).astype(int) - (estimate.gap_high < 0)
    return signs


def _location_scale_prevalence(
    evidence: Evidence, space: ClassSpace, seed: int
) -> tuple[dict[str, Any], Array]:
    """Return the prevalence of the location-scale model, and signs as `_signs` does."""
    val, target = evidence.known_val, evidence.target
    ones = np.ones(len(space.target))
    prevalence = np.bincount(space.labels) / len(space.labels)
    means = space.class_means(np.ones(len(space.source)))
    fitted = fit_shifted_mixture(space.target, initial_mixtures(means, prevalence, space.target), ones)
    source_draws = resample(val.units, [""] * len(val.units), space.labels, seed=seed, resamples=RESAMPLES)
    target_draws = resample(target.units, [""] * len(target.units), ones, seed=seed + 1, resamples=RESAMPLES)
    values = np.full((RESAMPLES, len(prevalence)), np.nan)
    gaps = np.full_like(values, np.nan)
    for row, (source_counts, target_counts) in enumerate(
        zip(source_draws.counts, target_draws.counts, strict=True)
    ):
        weights = source_counts[source_draws.group_of].astype(np.float64)
        drawn = np.bincount(space.labels, weights=weights, minlength=len(prevalence)) / weights.sum()
        if (drawn > 0).all():
            starts = [replace(fitted, means=space.class_means(weights))]
            target_weights = target_counts[target_draws.group_of].astype(np.float64)
            refitted = fit_shifted_mixture(space.target, starts, target_weights)
            values[row], gaps[row] = refitted.shares, refitted.shares - drawn
    level = 1 - (1 - LEVEL) / (len(prevalence) if len(prevalence) > 2 else 1)  # Bonferroni
    low, high = zip(*[interval(column, level=level) or (None, None) for column in values.T], strict=True)
    gap_limits = [interval(column, level=level) or (0.0, 0.0) for column in gaps.T]
    signs = [int(low_gap > 0) - int(high_gap < 0) for low_gap, high_gap in gap_limits]
    return {"value": fitted.shares.tolist(), "low": list(low), "high": list(high)}, np.array(signs)


def _to_json(estimate: PrevalenceEstimate) -> dict[str, Any]:
    columns = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    data: dict[str, Any] = {
        name: [None if np.isnan(number) else float(number) for number in column]
        for name, column in columns.items()
    }
    return data | ({"reason": estimate.reason} if estimate.reason else {})

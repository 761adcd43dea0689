"""Three reasons to be careful, each computed without a label of the target: nothing to adapt, other prevalence, an unknown class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import entr

from kerastl.evaluation.bootstrap import interval, single_threaded, resample
from kerastl.evaluation.label_shift import PrevalenceEstimate, estimate_prevalence
from kerastl.selection.domain_classifier import ClassSpace, above_chance, class_space, tell_apart, weighed
from kerastl.selection.evidence import NOT_AT_HAND, Evidence
from kerastl.selection.open_set import fit_moved_classes, starts_of, unknown_class, why_not_found
from kerastl.selection.ranking import at_target, calibrated_at_source

Array = np.ndarray[Any, Any]


def left_open(evidence: Evidence) -> dict[str, float]:
    """Return the share that is left open, 0 to 1, by domain: `source` (validation images) and `target`."""
    at_source, temperature = calibrated_at_source(evidence)
    return {"source": _open(at_source), "target": _open(at_target(evidence, temperature))}


def _open(probabilities: Array) -> float:
    whole = entr(probabilities.mean(axis=0)).sum()
    return float(entr(probabilities).sum(axis=1).mean() / whole) if whole > 0 else 0.0


RESAMPLES = 100
LEVEL = 0.95


def prevalence_at_target(evidence: Evidence, space: ClassSpace, *, seed: int) -> dict[str, Any]:
    """Return whether prevalence differs, with what says so.

    Estimates from answers (EM, BBSE) hold where nothing but prevalence changed. Another scanner pushes answers towards a class,
    and they take that for prevalence. So EM counts where source images, weighed to the new prevalence, cannot be told from the
    target's any more; otherwise the classes of the source are moved as one to fit the target, and must differ in prevalence
    beyond the interval, and BBSE, which asks answers and no places, must say the same of the class: two classes that a shift
    lays onto each other look like one that is gone and one that is commoner. Where classes overlap much and a shift lies along
    what tells them apart, few patients cannot say which of the two it was.

    Args:
        evidence: of source only.
        space: the same features.
        seed: of resamples and folds.

    Returns:
        `differs` (None: cannot tell), `rarer` and `commoner` (names of the classes that do), `source`, `em` and `bbse` (`value`, `low`, `high`: lists, a number a class; None where there is
        none), `moved_classes` (the same) and `rest`: how well the weighed source is told from the target.
    """
    val, target = evidence.known_val, evidence.target
    both = {
        name: estimate_prevalence(
            val.known_labels, val.logits, target.logits, method=name,
            source_units=val.units, target_units=target.units, seed=seed, resamples=RESAMPLES,
        )
        for name in ("em", "bbse")
    }  # fmt: skip
    em = both["em"]
    told: dict[str, Any] = {"differs": em.differs, "source": em.source.tolist()}
    told |= {name: _plain(one) for name, one in both.items()}
    moved, apart = _moved_classes(evidence, space, seed)
    if not np.isnan(both["bbse"].gap_low).any():
        apart = np.where(apart == _beyond(both["bbse"]), apart, 0)
    told |= {"rest": None, "moved_classes": moved, "rarer": [], "commoner": []}
    if em.differs is None:
        return told
    if not em.differs:
        return told | _differing(evidence.class_names, apart)
    weights = weighed(val.known_labels, em.source, em.value)
    rest = tell_apart(
        _bent(space.source), _bent(space.target), val.units, target.units,
        weights_a=weights, seed=seed,
    )  # fmt: skip
    if above_chance(rest) is False:
        apart = np.where(apart != 0, apart, _beyond(em))
    return told | {"rest": rest} | _differing(evidence.class_names, apart)


def _beyond(estimate: PrevalenceEstimate) -> Array:
    """Return of each class whether it is rarer (-1) or commoner (1) at the target beyond its interval, or neither (0)."""
    signs: Array = (estimate.gap_low > 0).astype(int) - (estimate.gap_high < 0)
    return signs


def _differing(class_names: tuple[str, ...], apart: Array) -> dict[str, Any]:
    """Return which classes are rarer or commoner, from `[classes]` of -1, 0 and 1."""
    rarer, commoner = (
        [name for name, sign in zip(class_names, apart, strict=True) if sign == wanted] for wanted in (-1, 1)
    )
    return {"differs": bool(rarer or commoner), "rarer": rarer, "commoner": commoner}


def _moved_classes(evidence: Evidence, space: ClassSpace, seed: int) -> tuple[dict[str, Any], Array]:
    """Return the prevalence by the location-scale model, and where it differs beyond its interval: -1, 0 or 1 a class."""
    val, target = evidence.known_val, evidence.target
    once = np.ones(len(space.target))
    source = np.bincount(space.labels) / len(space.labels)
    means = space.class_means(np.ones(len(space.source)))
    fitted = fit_moved_classes(space.target, starts_of(means, source, space.target), once)
    at_source = resample(val.units, [""] * len(val.units), space.labels, seed=seed, resamples=RESAMPLES)
    at_target = resample(target.units, [""] * len(target.units), once, seed=seed + 1, resamples=RESAMPLES)
    values = np.full((RESAMPLES, len(source)), np.nan)
    gaps = np.full_like(values, np.nan)
    pairs = zip(at_source.counts, at_target.counts, strict=True)
    for row, (drawn, drawn_target) in enumerate(pairs):
        weights = drawn[at_source.group_of].astype(np.float64)
        shares = np.bincount(space.labels, weights=weights, minlength=len(source)) / weights.sum()
        if (shares > 0).all():
            again = space.class_means(weights)
            starts = [replace(fitted, means=again)]
            found = fit_moved_classes(
                space.target, starts, drawn_target[at_target.group_of].astype(np.float64)
            )
            values[row], gaps[row] = found.shares, found.shares - shares
    wider = 1 - (1 - LEVEL) / (len(source) if len(source) > 2 else 1)
    told = [interval(column, level=wider) or (None, None) for column in values.T]
    apart = [interval(column, level=wider) for column in gaps.T]
    low, high = zip(*told, strict=True)
    plain = {"value": fitted.shares.tolist(), "low": list(low), "high": list(high)}
    signs = [0 if one is None else int(one[0] > 0) - int(one[1] < 0) for one in apart]
    return plain, np.array(signs)


def _bent(places: Array) -> Array:
    """Return `[n, 2 d]`: places and their squares.

    A linear classifier compares means, and weights can be found that make the means of a shifted target agree.
    """
    bent: Array = np.concatenate([places, places**2], axis=1)
    return bent


def _plain(one: PrevalenceEstimate) -> dict[str, Any]:
    columns = {"value": one.value, "low": one.low, "high": one.high}
    plain: dict[str, Any] = {
        name: [None if np.isnan(number) else float(number) for number in column]
        for name, column in columns.items()
    }
    return plain | ({"reason": one.reason} if one.reason else {})


GUARDS = ("nothing_to_adapt", "unknown_class", "other_prevalence")
MORE_LEFT_OPEN = 0.1
"""By how much of what there is to tell of the classes a model may leave more open at the target and still tell how common they are."""


@dataclass(frozen=True)
class Guard:
    """One reason to be careful.

    Args:
        fired: whether it holds; None: cannot tell.
        reason: what was found, in plain words.
        measured: the numbers behind it.
    """

    fired: bool | None
    reason: str
    measured: dict[str, Any]

    def after(self, other: Guard) -> Guard:
        """Return this guard, which was asked again, with what was measured before.

        Where it names classes that are rarer or commoner, it holds for those alone that were so before: an answer that names
        others each time is the model's confusion.
        """
        told = {**self.measured, "before": other.measured}
        if not self.fired or "rarer" not in told:
            return Guard(self.fired, self.reason, told)
        alike = {
            side: [name for name in told[side] if name in other.measured[side]]
            for side in ("rarer", "commoner")
        }
        if any(alike.values()):
            return Guard(True, self.reason, told | alike)
        return Guard(False, "no class is rarer, or commoner, however the images are seen", told | alike)

    def to_json(self) -> dict[str, Any]:
        """Return the guard as plain data."""
        return {"fired": self.fired, "reason": self.reason, "measured": self.measured}


@single_threaded()
def guards_of(
    source_only: Evidence, *, renormalised: Evidence | None = None, again: Sequence[Evidence] = (), seed: int
) -> dict[str, Guard]:
    """Return `nothing_to_adapt`, `unknown_class` and `other_prevalence`, from the model that was not adapted.

    Where the source's images are not at hand, none can be asked: `fired` is None. The source is seen through its validation images: of those it learnt from a model knows too much.

    Args:
        source_only: of the model that was not adapted.
        renormalised: of its weights, BatchNorm's statistics at each domain being its own; None: there is no such network.
        again: of models in whose features what a scanner moves as a whole is back in its place, as in `renormalised`, and
            nothing was made alike beyond that; the last two guards hold only where they hold in each of these, too.
            Images of another class, or of other shares of the classes, show there as well.
        seed: of resampling.
    """
    if source_only.source_val is None:
        # Not one of them: each compares the target with the source.
        return {name: Guard(None, NOT_AT_HAND, {}) for name in GUARDS}
    unadapted = [source_only] if renormalised is None else [source_only, renormalised]
    first = found = _of_classes(source_only, seed)
    for other in (*unadapted[1:], *again):
        if not any(one.fired for one in found.values()):
            break
        anew = _of_classes(other, seed)
        found = {name: anew[name].after(one) if one.fired else one for name, one in found.items()}
    found["other_prevalence"] = _if_told(found["other_prevalence"], unadapted)
    shares = first["other_prevalence"].measured
    return {"nothing_to_adapt": _nothing_to_adapt(source_only, shares, seed), **found}


def _if_told(prevalence: Guard, unadapted: Sequence[Evidence]) -> Guard:
    """Return the guard, or that it cannot be told where no model that learnt nothing from the target knows its classes.

    One that learnt from its own answers is sure of them, right or wrong: how sure it is says nothing.
    """
    if not prevalence.fired:
        return prevalence
    least = min(map(left_open, unadapted), key=lambda one: one["target"] - one["source"])
    told = prevalence.measured | {"left_open": least}
    if least["target"] - least["source"] <= MORE_LEFT_OPEN:
        return Guard(True, prevalence.reason, told)
    reason = (
        "how common the classes are at the target cannot be told: of what there is to tell of its images' classes "
        f"{least['target']:.0%} is left open, and {least['source']:.0%} at the source"
    )
    return Guard(None, reason, told)


def _of_classes(evidence: Evidence, seed: int) -> dict[str, Guard]:
    """Return the guards that ask where the target's classes lie."""
    space = _space_of(evidence)
    return {
        "unknown_class": _unknown_class(evidence, space, seed),
        "other_prevalence": _other_prevalence(evidence, space, seed),
    }


def _space_of(evidence: Evidence) -> ClassSpace:
    val = evidence.known_val
    return class_space(val.features, val.known_labels, evidence.target.features)


def _nothing_to_adapt(source_only: Evidence, shares: Mapping[str, Any], seed: int) -> Guard:
    val, target = source_only.known_val, source_only.target
    told = tell_apart(val.features, target.features, val.units, target.units, seed=seed)
    if told["low"] is None:
        counts = {"the source's validation": val.units, "the target": target.units}
        fewest, place = min((len(set(units)), place) for place, units in counts.items())
        reason = f"whether the sites differ cannot be told: {place} has {fewest} patients ({told['reason']})"
        return Guard(None, reason, told)
    found = _in_words(told)
    if not above_chance(told):
        return Guard(True, f"the target's images cannot be told from the source's ({found})", told)
    if shares["differs"]:
        weights = weighed(val.known_labels, shares["source"], shares["em"]["value"])
        rest = tell_apart(
            val.features, target.features, val.units, target.units, weights_a=weights, seed=seed
        )
        told = told | {"weighed": rest}
        if above_chance(rest) is False:
            reason = (
                "but for how common the classes are, the target's images cannot be told from the source's "
                f"({_in_words(rest)}; as they are: {found})"
            )
            return Guard(True, reason, told)
    return Guard(False, f"the target's images differ from the source's ({found})", told)


def _in_words(told: Mapping[str, Any]) -> str:
    return f"AUC {told['value']:.2f}, interval {told['low']:.2f} to {told['high']:.2f}"


def _unknown_class(source_only: Evidence, space: ClassSpace, seed: int) -> Guard:
    val, target = source_only.known_val, source_only.target
    told = unknown_class(val, target, space, seed=seed)
    if told["found"] is None:
        return Guard(None, "too few target patients to look for an unknown class", told)
    if told["found"]:
        reason = (
            f"{told['share']:.0%} of the target's images lie together, {told['distance']:.1f} times the spread of a "
            "class away from every class of the source"
        )
        return Guard(True, reason, told)
    return Guard(False, why_not_found(told), told)


def _other_prevalence(source_only: Evidence, space: ClassSpace, seed: int) -> Guard:
    told = prevalence_at_target(source_only, space, seed=seed)
    if told["differs"] is None:
        reason = "how common the classes are at the target cannot be told"
        why = told["em"].get("reason")
        return Guard(None, f"{reason} ({why})" if why else reason, told)
    if told["differs"]:
        return Guard(True, "classes are not as common at the target as at the source", told)
    return Guard(False, "classes are about as common at the target as at the source", told)

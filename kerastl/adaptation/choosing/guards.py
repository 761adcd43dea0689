"""Three reasons to be careful, each computed without a label of the target: nothing to adapt, other prevalence, an unknown class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kerastl.adaptation.choosing.class_space import ClassSpace, class_space
from kerastl.adaptation.choosing.evidence import NOT_AT_HAND, Evidence
from kerastl.adaptation.choosing.folds import above_chance
from kerastl.adaptation.choosing.left_open import left_open
from kerastl.adaptation.choosing.prevalence import prevalence_at_target
from kerastl.adaptation.choosing.told_apart import tell_apart, weighed
from kerastl.adaptation.choosing.unknown_class import unknown_class, why_not_found
from kerastl.evaluation.bootstrap import one_thread

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
        return Guard(
            False, "no class is rarer, or commoner, however the pictures are seen", told | alike
        )

    def to_json(self) -> dict[str, Any]:
        """Return the guard as plain data."""
        return {"fired": self.fired, "reason": self.reason, "measured": self.measured}


@one_thread()
def guards_of(
    source_only: Evidence,
    *,
    renormalised: Evidence | None = None,
    again: Sequence[Evidence] = (),
    seed: int,
) -> dict[str, Guard]:
    """Return `nothing_to_adapt`, `unknown_class` and `other_prevalence`, from the model that was not adapted.

    Where the source's pictures are not at hand, none can be asked: `fired` is None. The source is seen through its validation pictures: of those it learnt from a model knows too much.

    Args:
        source_only: of the model that was not adapted.
        renormalised: of its weights, BatchNorm's statistics at each domain being its own; None: there is no such network.
        again: of models in whose features what a scanner moves as a whole is back in its place, as in `renormalised`, and
            nothing was made alike beyond that; the last two guards hold only where they hold in each of these, too.
            Pictures of another class, or of other shares of the classes, show there as well.
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
        "how common the classes are at the target cannot be told: of what there is to tell of its pictures' classes "
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
        return Guard(
            True, f"the target's pictures cannot be told from the source's ({found})", told
        )
    if shares["differs"]:
        weights = weighed(val.known_labels, shares["source"], shares["em"]["value"])
        rest = tell_apart(
            val.features, target.features, val.units, target.units, weights_a=weights, seed=seed
        )
        told = told | {"weighed": rest}
        if above_chance(rest) is False:
            reason = (
                "but for how common the classes are, the target's pictures cannot be told from the source's "
                f"({_in_words(rest)}; as they are: {found})"
            )
            return Guard(True, reason, told)
    return Guard(False, f"the target's pictures differ from the source's ({found})", told)


def _in_words(told: Mapping[str, Any]) -> str:
    return f"AUC {told['value']:.2f}, interval {told['low']:.2f} to {told['high']:.2f}"


def _unknown_class(source_only: Evidence, space: ClassSpace, seed: int) -> Guard:
    val, target = source_only.known_val, source_only.target
    told = unknown_class(val, target, space, seed=seed)
    if told["found"] is None:
        return Guard(None, "too few target patients to look for an unknown class", told)
    if told["found"]:
        reason = (
            f"{told['share']:.0%} of the target's pictures lie together, {told['distance']:.1f} times the spread of a "
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

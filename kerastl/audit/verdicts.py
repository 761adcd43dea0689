"""From measurements to verdicts: what moves a label, what erases it, what is safe, and what cannot be told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from kerastl.audit.measure import Court, Measurement, Pair, Trial, holm

ERROR_RATE = 0.05
"""Chance that an audit says of any operation that it moves a label when it moves none: half for each of its two
stages. Erasure is decided outside of the second one."""
NEIGHBOURS_SHARE = 0.1
"""Share of stage two's level that is spent on the way by neighbours, which errs more often than judges do: in a
sparse space some images have the other class nearest to them whatever they show."""
SAFE_BELOW = 0.10
"""An operation is called safe where at most this share of a class can have moved."""
CLEARED_BELOW = 0.03
"""The same for the share that the finer question of stage two finds."""
HARDLY_ANY = 0.02
"""Rise of the share that taught judges take for the other class, below which a second look is not worth its time."""
TOLD_APART = 0.5
"""Classes that judges tell apart less well (1 always, 0 by chance) say nothing about an operation."""
ERASED_BELOW = 0.5
"""Classes of which less than this is left of what told them apart are erased."""

Kind = Literal["moves", "erases"]
State = Literal["harmful", "undecided", "safe"]


@dataclass(frozen=True)
class Finding:
    """An operation at a strength changes what a class's images show.

    Args:
        trial: which.
        kind: `moves`: they fall where untouched images of the other class lie. `erases`: the two classes cannot be
            told apart any more, not even by a model that learnt the operation.
        pair: the two classes and the figures.
    """

    trial: Trial
    kind: Kind
    pair: Pair


@dataclass(frozen=True)
class Verdict:
    """What is said of one operation.

    Args:
        name: of the operation.
        state: `harmful` at some strength, `safe` at all that were tried, or `undecided`.
        safe: the strongest rung up to which everything is safe; None: not even the lowest.
        findings: from the lowest harmful strength on.
        reasons: why something stays undecided, one line each.
        unlearnt: (strength, agreement of changed images before, after learning): safe, but a model must learn it.
        unchanged: the operation does nothing to these images.
    """

    name: str
    state: State
    safe: Trial | None
    findings: tuple[Finding, ...]
    reasons: tuple[str, ...]
    unlearnt: tuple[tuple[float, float, float], ...]
    unchanged: bool


Where = Callable[[Trial, Pair, bool], Pair]
"""Takes a trial, a pair, and whether it is suspected, which is worth more draws; answers the finer question."""


def find(
    measured: Mapping[Trial, Measurement], where: Where
) -> tuple[dict[tuple[Trial, int, int], Pair], list[Finding]]:
    """Return every pair with all its figures, and what was found.

    Stage one asks of every operation, strength and ordered pair of classes whether more changed images than the
    margin are taken for the other class by naive judges. Stage two asks of those, on fresh draws, whether judges that
    learnt the operation are taken in, too, and whether the images lie where the other class lies; where hardly any
    taught judge was taken in before, the answer is no without asking. Each stage keeps the chance of any false `moves`
    under half of `ERROR_RATE` by Holm's rule. Pairs that are not suspected, but of which too few images were seen to
    call them safe, are asked the second question, too: not to condemn anything, but to clear it.

    Args:
        measured: by trial.
        where: `SecondLook.at` on fresh draws of a trial.
    """
    pairs = {(trial, pair.source, pair.target): pair for trial, one in measured.items() for pair in one.pairs}
    keys = list(pairs)
    taken = holm([pairs[key].naive.p for key in keys], level=ERROR_RATE / 2)
    suspects = [key for key, fell in zip(keys, taken, strict=True) if fell]
    suspected = {key for key in suspects if pairs[key].taught.value > HARDLY_ANY}
    for key in keys:
        if key in suspected or _at_most(pairs[key]) >= SAFE_BELOW:
            pairs[key] = where(key[0], pairs[key], key in suspected)
    # Those that were not asked count, too: they were left out for what was seen, not beforehand.
    second = [_second(pairs[key]) if key in suspected else 1.0 for key in suspects]
    moved = holm(second, level=ERROR_RATE / 2)
    findings = []
    for key, moves in zip(suspects, moved, strict=True):
        if moves:
            findings.append(Finding(key[0], "moves", pairs[key]))
        elif pairs[key].still_told_upper < ERASED_BELOW:
            findings.append(Finding(key[0], "erases", pairs[key]))
    return pairs, findings


def _second(pair: Pair) -> float:
    """Return the p-value of stage two: of two ways that share its level unevenly (weighted Bonferroni).

    Either more than the margin are taken for the other class by taught judges, and some lie where it lies, by judges
    or by neighbours (counted twice again); or some are, and more than the margin lie among its untouched images.
    """
    asked = (pair.taught_again, pair.taught_some, pair.other_taught, pair.among, pair.among_many)
    again, some, other_taught, among, among_many = (one.p if one else 1.0 for one in asked)
    by_judges = max(again, 2 * min(other_taught, among))
    by_neighbours = max(some, among_many)
    return min(1.0, by_judges / (1 - NEIGHBOURS_SHARE), by_neighbours / NEIGHBOURS_SHARE)


def judge_operation(
    name: str,
    measured: Mapping[Trial, Measurement],
    pairs: Mapping[tuple[Trial, int, int], Pair],
    findings: Sequence[Finding],
    court: Court,
    class_names: Sequence[str],
) -> Verdict:
    """Return the verdict over all strengths of one operation, weakest first.

    What is harmful at one strength is taken to be harmful above it, too: a wider range holds the narrower one.
    """
    trials = sorted((trial for trial in measured if trial.name == name), key=lambda t: t.strength)
    mine = [one for one in findings if one.trial.name == name]
    lowest = min((one.trial.strength for one in mine), default=2.0)
    safe: Trial | None = None
    reasons: list[str] = []
    for trial in trials:
        doubts = _doubts(trial, measured[trial], pairs, court, class_names)
        if trial.strength >= lowest or doubts:
            if trial.strength < lowest:
                reasons = doubts
            break
        safe = trial
    state: State = "harmful" if mine else "undecided" if reasons else "safe"
    return Verdict(
        name, state, safe, tuple(sorted(mine, key=lambda one: one.trial.strength)), tuple(reasons),
        tuple(_unlearnt(trial, measured[trial]) for trial in trials
            if trial.strength < lowest and _is_unlearnt(measured[trial])),
        all(measured[trial].unchanged for trial in trials),
    )  # fmt: skip


def _doubts(
    trial: Trial,
    one: Measurement,
    pairs: Mapping[tuple[Trial, int, int], Pair],
    court: Court,
    class_names: Sequence[str],
) -> list[str]:
    """Say why a trial cannot be called safe: one line a reason, none where it is."""
    if one.unchanged:
        return []
    few, alike, open_ = [], [], []
    for (which, source, target), pair in pairs.items():
        if which != trial:
            continue
        names = class_names[source], class_names[target]
        if min(court.groups_of_class[source], court.groups_of_class[target]) < court.fewest_groups:
            few.append(names[0 if court.groups_of_class[source] < court.fewest_groups else 1])
        elif court.told_apart(source, target) < TOLD_APART:
            alike.append(" and ".join(sorted(names)))
        elif _at_most(pair) >= SAFE_BELOW:
            open_.append(f"{names[0]} for {names[1]} (at most {_at_most(pair):.0%})")
    told = []
    if few:
        told.append(f"fewer than {court.fewest_groups} groups of {_listed(few)}")
    if alike:
        told.append(f"judges cannot tell {_listed(alike)} apart untouched")
    if open_:
        told.append(f"too few images to rule out that some are taken: {_listed(open_)}")
    return told


def _at_most(pair: Pair) -> float:
    """Return the largest share that can have moved: no more than any judge takes for the other class.

    A taught judge gives half of the images that two classes share to either, so its share counts twice. Traces
    of the operation (filled borders, resampling) can hide a part of what moved from the finer question: it clears
    a pair only where it finds next to nothing.
    """
    finer = [one.upper for one in (pair.other_taught, pair.among) if one]
    if finer and max(finer) < CLEARED_BELOW:
        return 0.0
    return max(0.0, min(pair.naive.upper, 2 * pair.taught.upper))


def _listed(names: Sequence[str], most: int = 3) -> str:
    distinct = list(dict.fromkeys(names))
    more = f" and {len(distinct) - most} more" if distinct[most:] else ""
    return ", ".join(distinct[:most]) + more


UNLEARNT = 0.10
"""Fall of the agreement, over all classes, that is worth a word."""
RESTORED = 0.5
"""Share of the fall that learning must give back."""


def _is_unlearnt(one: Measurement) -> bool:
    if one.unchanged:
        return False
    before, changed, learnt = (_mean(one, name) for name in _SHOWN)
    lost = before - changed
    return lost > UNLEARNT and learnt - changed >= RESTORED * lost


_SHOWN = ("agreement", "agreement_changed", "agreement_learnt")


def _unlearnt(trial: Trial, one: Measurement) -> tuple[float, float, float]:
    return trial.strength, _mean(one, "agreement_changed"), _mean(one, "agreement_learnt")


def _mean(one: Measurement, name: str) -> float:
    return sum(figures[name][0] for figures in one.classes) / len(one.classes)

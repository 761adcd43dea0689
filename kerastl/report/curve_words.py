"""What a curve means, in sentences; each is computed, and says so where the seeds do not tell."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from kerastl.report.curve_points import (
    ADAPT_THEN_FINE_TUNE,
    FEWEST_SEEDS,
    FINE_TUNE,
    SCRATCH,
    UNCHANGED,
    WITHOUT_LABELS,
    Curve,
    Level,
    compared,
)

Levels = list[tuple[int, Level]]


def reading_of(curve: Curve) -> list[str]:
    """Return what the curve says, the most useful first."""
    told = [_unchanged(curve)]
    if len(curve.seeds) < FEWEST_SEEDS:
        told.append(
            "One seed shows no spread, so nothing can be told apart: repeat with --seeds 3 or more."
        )
    told += [*_fine_tuned(curve), *_scratch(curve), *_adapted(curve), *_enough(curve)]
    return told


def _unchanged(curve: Curve) -> str:
    level = curve.level(UNCHANGED, 0)
    text = level.text if level else "no value"
    return f"A's model unchanged reached {text} at B ({curve.metric_words})."


def _labelled(curve: Curve, number: int) -> str:
    return f"{number} labelled {curve.unit}{'s' if number != 1 else ''} a class"


def turning_point(curve: Curve, way: str) -> int | None:
    """Return the fewest labels from which on a way is above A's model unchanged; None: there are none such."""
    base = curve.level(UNCHANGED, 0)
    if base is None:
        return None
    first = None
    for number, level in reversed(_with_labels(curve, way)):
        if compared(level, base) != "above":
            break
        first = number
    return first


def _with_labels(curve: Curve, way: str) -> Levels:
    return [(number, level) for number, level in curve.levels(way) if number]


def _base_number(curve: Curve) -> int | None:
    """Return the number of labels that other ways are compared at: where fine-tuning begins to help, or the fewest."""
    turn = turning_point(curve, FINE_TUNE)
    if turn is not None:
        return turn
    return next((number for number, _ in _with_labels(curve, FINE_TUNE)), None)


def _fine_tuned(curve: Curve) -> Iterator[str]:
    base, number = curve.level(UNCHANGED, 0), _base_number(curve)
    if base is None or number is None:
        return
    level = curve.level(FINE_TUNE, number)
    assert level is not None
    told = f"With {_labelled(curve, number)}, fine-tuning reached {level.text}: "
    if turning_point(curve, FINE_TUNE) is not None:
        more = " and so with more" if number < curve.labels[-1] else ""
        yield f"{told}above A's model unchanged in every seed{more}."
        return
    outcome = compared(level, base)
    yield told + (
        "below A's model unchanged in every seed."
        if outcome == "below"
        else "cannot tell whether it helps."
    )
    last = curve.level(FINE_TUNE, curve.labels[-1])
    if last is not None and curve.labels[-1] != number:
        outcome = compared(last, base)
        words = {
            "above": "above A's model unchanged, but not at every number of labels between",
            "below": "below A's model unchanged in every seed",
            "cannot tell": "cannot tell whether it helps",
        }
        yield f"With {_labelled(curve, curve.labels[-1])} it reached {last.text}: {words[outcome]}."


def _scratch(curve: Curve) -> Iterator[str]:
    """Tell how many labels training from random weights needs for what fine-tuning reached."""
    number, levels = _base_number(curve), _with_labels(curve, SCRATCH)
    goal = curve.level(FINE_TUNE, number) if number is not None else None
    if number is None or goal is None or not levels:
        return
    goal_words = f"the {goal.text} that fine-tuning reached with {_labelled(curve, number)}"
    enough = _from_where(levels, goal)
    untold = [one for one, level in levels if compared(level, goal) == "cannot tell"]
    if enough is not None:
        level = dict(levels)[enough]
        told = f"From scratch, {_labelled(curve, enough)} reached {level.text}"
        if enough not in untold:
            sooner = [one for one in untold if one < enough]
            doubt = (
                f"; {_overlap(curve)} with {sooner[0]} already, so fewer may do" if sooner else ""
            )
            yield f"{told}: above {goal_words}, in every seed{doubt}."
        else:
            side = "above" if level.median > goal.median else "as much as"
            yield f"{told}, {side} {goal_words}; {_overlap(curve)}, so which of the two is more cannot be told."
        return
    last_number, last = levels[-1]
    told = f"From scratch, {_labelled(curve, last_number)} reached {last.text}"
    if untold:
        where = "" if last_number in untold else f" with {untold[-1]}"
        yield f"{told}, by the median below {goal_words}; but {_overlap(curve)}{where}: cannot tell."
    else:
        yield f"{told}: still below {goal_words}, in every seed."


def _overlap(curve: Curve) -> str:
    return "the seeds overlap" if len(curve.seeds) >= FEWEST_SEEDS else "one seed shows no spread"


def _from_where(levels: Levels, goal: Level) -> int | None:
    """Return the fewest labels from which on the median is not below that of the goal."""
    first = None
    for number, level in reversed(levels):
        if level.median < goal.median:
            break
        first = number
    return first


def how_adapted(curve: Curve) -> str:
    """Return what A's model was adapted by without labels: `by coral`, or by what in which seed."""
    seeds: dict[str, list[str]] = {}
    for one in curve.tested:
        seeds.setdefault(one.adaptation, []).append(str(one.seed))
    if len(seeds) == 1:
        return next(iter(seeds))
    return "; ".join(f"seed {_listed(some)}: {words}" for words, some in seeds.items())


def _adapted(curve: Curve) -> Iterator[str]:
    base, free = curve.level(UNCHANGED, 0), curve.level(WITHOUT_LABELS, 0)
    kept = bool(curve.tested) and all(one.kept for one in curve.tested)
    if kept and free is not None:
        yield (
            f"Without a label of B, {how_adapted(curve)}: {free.text}. "
            "So adapt_then_fine_tune says nothing here of what adapting is worth."
        )
        return
    if base is not None and free is not None:
        outcome = compared(free, base)
        words = {
            "above": "above A's model unchanged in every seed",
            "below": "below A's model unchanged in every seed",
            "cannot tell": "cannot tell whether that is better than A's model unchanged",
        }
        how = how_adapted(curve)
        yield f"Adapted without a label of B ({how}), the model reached {free.text}: {words[outcome]}."
    yield from _adapted_first(curve)


def _adapted_first(curve: Curve) -> Iterator[str]:
    found: dict[str, list[str]] = {"above": [], "below": [], "cannot tell": []}
    for number, level in _with_labels(curve, ADAPT_THEN_FINE_TUNE):
        other = curve.level(FINE_TUNE, number)
        if other is not None:
            found[compared(level, other)].append(str(number))
    words = {
        "above": "is above fine-tuning alone",
        "below": "is below fine-tuning alone",
        "cannot tell": "cannot be told from fine-tuning alone",
    }
    parts = [
        f"{words[outcome]} with {_listed(numbers)}" for outcome, numbers in found.items() if numbers
    ]
    if parts:
        yield f"Adapting first, then fine-tuning, {', and '.join(parts)} labelled {curve.unit}s a class."


def _listed(numbers: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(numbers[:-1]), numbers[-1]]))


def enough_labels(levels: Levels) -> int | None:
    """Return the fewest labels beyond which no median moved by more than the spread over the seeds.

    The spread is the larger one of the two that are compared. None: the last step still moved it by more.
    """
    for place, (number, level) in enumerate(levels[:-1]):
        beyond = [other for _, other in levels[place + 1 :]]
        if all(
            abs(other.median - level.median) <= max(other.spread, level.spread) for other in beyond
        ):
            return number
    return None


def _enough(curve: Curve) -> Iterator[str]:
    levels = curve.levels(FINE_TUNE)
    if len(levels) < FEWEST_SEEDS or len(curve.seeds) < FEWEST_SEEDS:
        return
    enough = enough_labels(levels)
    if enough is None:
        (before, _), (last, _) = list(pairwise(levels))[-1]
        yield (
            f"From {before} to {_labelled(curve, last)}, fine-tuning still changed by more than the spread over "
            "the seeds: more labels may change it further."
        )
    elif enough == 0:
        yield (
            f"Labelling up to {curve.count(levels[-1][0])} a class changed fine-tuning by less than the spread over the "
            "seeds: cannot tell whether labels help."
        )
    else:
        yield (
            f"Labelling more than {curve.count(enough)} a class changed fine-tuning by less than the spread over "
            "the seeds."
        )

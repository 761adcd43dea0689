"""Audit operations on one data set: features in, verdicts out. No pictures, no TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerastl.audit.judges import Jury
from kerastl.audit.ladder import Trial
from kerastl.audit.measure import Court, Measurement, Pair
from kerastl.audit.second_look import SecondLook
from kerastl.audit.verdicts import Finding, Verdict, find, judge_operation
from kerastl.console import track
from kerastl.evaluation.bootstrap import FEWEST_GROUPS, resample

Array = np.ndarray[Any, Any]
Changed = Callable[[Trial, int], Array]
"""Takes a trial and the number of a draw; returns the features of all pictures changed: `[n, width]` float32."""

DRAWS = 2
FRESH_DRAWS = 8
"""Draws that decide where suspicious pictures lie; they were not used to suspect them."""
MOST_FRESH_PICTURES = 4000
"""Changed pictures in a second look; of many pictures fewer draws are as good."""
FEWEST_GROUPS_OF_A_CLASS = 3
RESAMPLES = 1000


@dataclass(frozen=True)
class Audit:
    """What an audit came to.

    Args:
        class_names: those that were judged.
        counts: (pictures, groups) of each of them.
        left_out: one line for each class that could not be judged.
        measured: by trial.
        pairs: by trial, source and target class.
        findings: what changes a label.
        verdicts: one an operation, in the order they were asked for.
    """

    class_names: tuple[str, ...]
    counts: tuple[tuple[int, int], ...]
    left_out: tuple[str, ...]
    measured: dict[Trial, Measurement]
    pairs: dict[tuple[Trial, int, int], Pair]
    findings: tuple[Finding, ...]
    verdicts: tuple[Verdict, ...]


def audit(
    features: Array,
    labels: Sequence[str],
    groups: Sequence[str],
    trials: Sequence[Trial],
    changed: Changed,
    *,
    widths: Sequence[int],
    seed: int,
) -> Audit:
    """Judge which operation at which strength changes the class of which pictures.

    Args:
        features: `[n, width]` float32 of untouched pictures.
        labels: the class of each.
        groups: what must stay together, e.g. the patient of each; its own name where a picture stands for itself.
        trials: operations at strengths.
        changed: gives the features of the same pictures, changed.
        widths: of the parts that the features are made of; each weighs the same.
        seed: of folds and resamples.
    """
    kept, names, left_out = _judgeable(labels, groups)
    if len(names) < 2:
        return _nothing_to_judge(trials, left_out)
    number = {name: place for place, name in enumerate(names)}
    numbers = np.array([number[labels[row]] for row in kept], np.int64)
    units = np.unique(np.asarray([groups[row] for row in kept]), return_inverse=True)[1]
    jury = Jury(np.asarray(features)[kept], numbers, units, tuple(widths), seed)
    court = _court(jury, seed)
    measured = {
        trial: court.measure([changed(trial, draw)[kept] for draw in range(DRAWS)])
        for trial in track(trials, "auditing", len(trials))
    }

    fresh = min(FRESH_DRAWS, max(DRAWS, MOST_FRESH_PICTURES // len(kept)))
    looks: dict[tuple[Trial, int], SecondLook] = {}

    def where(trial: Trial, pair: Pair, suspected: bool) -> Pair:
        number = fresh if suspected else DRAWS
        if (trial, number) not in looks:
            for other in [key for key in looks if key[0] != trial]:
                del looks[other]  # one trial's draws at a time: memory stays flat
            draws = [changed(trial, DRAWS + draw)[kept] for draw in range(number)]
            looks[trial, number] = SecondLook(court, draws)
        return looks[trial, number].at(pair)

    pairs, findings = find(measured, where)
    verdicts = tuple(
        judge_operation(name, measured, pairs, findings, court, names)
        for name in dict.fromkeys(trial.name for trial in trials)
    )
    counts = tuple(
        (int((numbers == one).sum()), court.groups_of_class[one]) for one in range(len(names))
    )
    return Audit(names, counts, left_out, measured, pairs, tuple(findings), verdicts)


def _judgeable(
    labels: Sequence[str], groups: Sequence[str]
) -> tuple[list[int], tuple[str, ...], tuple[str, ...]]:
    """Return the rows that can be judged, their classes in order of appearance, and why others cannot."""
    groups_of: dict[str, set[str]] = {}
    for label, group in zip(labels, groups, strict=True):
        groups_of.setdefault(label, set()).add(group)
    few = {name for name, own in groups_of.items() if len(own) < FEWEST_GROUPS_OF_A_CLASS}
    left_out = tuple(
        f"{name}: {len(groups_of[name])} group{'s' if len(groups_of[name]) > 1 else ''}, at least "
        f"{FEWEST_GROUPS_OF_A_CLASS} are needed, so that no picture is judged by a model that saw its group"
        for name in groups_of
        if name in few
    )
    names = tuple(name for name in groups_of if name not in few)
    return [row for row, label in enumerate(labels) if label not in few], names, left_out


def _nothing_to_judge(trials: Sequence[Trial], left_out: tuple[str, ...]) -> Audit:
    """Leave everything undecided: there are no two classes to be told apart."""
    why = (
        f"fewer than two classes have {FEWEST_GROUPS_OF_A_CLASS} groups (patients, scenes) or more",
    )
    verdicts = tuple(
        Verdict(name, "undecided", None, (), why, (), False)
        for name in dict.fromkeys(trial.name for trial in trials)
    )
    return Audit((), (), left_out, {}, {}, (), verdicts)


def _court(jury: Jury, seed: int) -> Court:
    units = [f"{group:09d}" for group in jury.groups]
    drawn = resample(units, [""] * len(units), jury.labels, seed=seed, resamples=RESAMPLES)
    groups_of_class = [
        len(np.unique(jury.groups[jury.labels == one])) for one in np.unique(jury.labels)
    ]
    weights = drawn.counts[:, drawn.group_of].astype(np.float32)
    return Court(jury, weights, groups_of_class, FEWEST_GROUPS)

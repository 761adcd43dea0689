"""Audit operations on one data set: features in, verdicts out. No images, no TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from kerastl.audit.measure import (
    CLASS_FIGURES,
    FINER_MARGIN,
    TAKEN_MARGIN,
    Court,
    Jury,
    Measurement,
    Pair,
    Trial,
)
from kerastl.audit.verdicts import ERROR_RATE, Finding, Verdict, find, judge_operation
from kerastl.console import track
from kerastl.evaluation.bootstrap import FEWEST_GROUPS, resample
from kerastl.recipe import to_yaml

Array = np.ndarray[Any, Any]


@dataclass
class SecondLook:
    """Where images lie that are taken for another class.

    Args:
        court: the judges.
        draws: fresh ones, as in `Court.measure`.
    """

    court: Court
    draws: Sequence[Array]
    _others: dict[int, Array] = field(default_factory=dict)

    @cached_property
    def _taught(self) -> Array:
        return self._answers(range(self.court.classes))

    @cached_property
    def _among(self) -> tuple[Array, Array]:
        """Among which class images lie: untouched `[n]`, changed `[draws, n]`."""
        where = self.court.neighbourhood
        before = where.among(self.court.jury.features)
        return before, np.stack([where.among(one) for one in self.draws])

    def _taught_but_on(self, target: int) -> Array:
        if target not in self._others:
            others = [one for one in range(self.court.classes) if one != target]
            self._others[target] = self._answers(others)
        return self._others[target]

    def _answers(self, changed_classes: Sequence[int]) -> Array:
        jury = self.court.jury
        judges = jury.train(self.draws, changed_classes)
        found: Array = np.stack([jury.ask(judges, one) for one in self.draws]).argmax(axis=-1)
        return found

    def at(self, pair: Pair) -> Pair:
        """Ask of images that are taken for another class whether they lie where its untouched images lie.

        Judges that learnt the operation on every class tell whether it can be learnt. Judges that learnt it on every
        class but the target, each image under its own label, call a changed image the target only where untouched
        images of the target are denser. And the share that lies among the target's untouched images is counted.

        Returns:
            The pair with everything that was not asked before.
        """
        source, target, court = pair.source, pair.target, self.court
        untouched = court.untouched
        before, among = self._among
        apart = self._taught_but_on(target)
        return dataclasses.replace(
            pair,
            taught_again=court.rise(self._taught, untouched, source, target, TAKEN_MARGIN),
            taught_some=court.rise_either_way(self._taught, source, target),
            other_taught=court.rise(apart, untouched, source, target, FINER_MARGIN),
            among=court.rise(among, before, source, target, FINER_MARGIN),
            among_many=court.rise(among, before, source, target, TAKEN_MARGIN),
        )


Changed = Callable[[Trial, int], Array]
"""Takes a trial and the number of a draw; returns the features of all images changed: `[n, width]` float32."""

DRAWS = 2
FRESH_DRAWS = 8
"""Draws that decide where suspicious images lie; they were not used to suspect them."""
MOST_FRESH_IMAGES = 4000
"""Changed images in a second look; of many images fewer draws are as good."""
FEWEST_GROUPS_OF_A_CLASS = 3
RESAMPLES = 1000


@dataclass(frozen=True)
class Audit:
    """What an audit came to.

    Args:
        class_names: those that were judged.
        counts: (images, groups) of each of them.
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
    """Judge which operation at which strength changes the class of which images.

    Args:
        features: `[n, width]` float32 of untouched images.
        labels: the class of each.
        groups: what must stay together, e.g. the patient of each; its own name where an image stands for itself.
        trials: operations at strengths.
        changed: gives the features of the same images, changed.
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

    fresh = min(FRESH_DRAWS, max(DRAWS, MOST_FRESH_IMAGES // len(kept)))
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
    counts = tuple((int((numbers == one).sum()), court.groups_of_class[one]) for one in range(len(names)))
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
        f"{FEWEST_GROUPS_OF_A_CLASS} are needed, so that no image is judged by a model that saw its group"
        for name in groups_of
        if name in few
    )
    names = tuple(name for name in groups_of if name not in few)
    return [row for row, label in enumerate(labels) if label not in few], names, left_out


def _nothing_to_judge(trials: Sequence[Trial], left_out: tuple[str, ...]) -> Audit:
    """Leave everything undecided: there are no two classes to be told apart."""
    why = (f"fewer than two classes have {FEWEST_GROUPS_OF_A_CLASS} groups (patients, scenes) or more",)
    verdicts = tuple(
        Verdict(name, "undecided", None, (), why, (), False)
        for name in dict.fromkeys(trial.name for trial in trials)
    )
    return Audit((), (), left_out, {}, {}, (), verdicts)


def _court(jury: Jury, seed: int) -> Court:
    units = [f"{group:09d}" for group in jury.groups]
    drawn = resample(units, [""] * len(units), jury.labels, seed=seed, resamples=RESAMPLES)
    groups_of_class = [len(np.unique(jury.groups[jury.labels == one])) for one in np.unique(jury.labels)]
    weights = drawn.counts[:, drawn.group_of].astype(np.float32)
    return Court(jury, weights, groups_of_class, FEWEST_GROUPS)


def sample(labels: Sequence[str], groups: Sequence[str], *, most_per_class: int, seed: int) -> list[int]:
    """Return the places of at most so many images a class, as many groups as possible.

    Every group gives its first image before any gives its second; which come first is drawn.

    Args:
        labels, groups: of each image.
        most_per_class: images.
        seed: another seed, other images.
    """
    generator = np.random.default_rng(seed)
    chosen: list[int] = []
    for label in sorted(set(labels)):
        rows = [int(row) for row in np.flatnonzero(np.asarray(labels, object) == label)]
        order = [rows[place] for place in generator.permutation(len(rows))]
        turn: dict[str, int] = {}
        rounds = []
        for row in order:
            turn[groups[row]] = turn.get(groups[row], -1) + 1
            rounds.append(turn[groups[row]])
        ranked = sorted(range(len(order)), key=lambda place: (rounds[place], place))
        chosen += [order[place] for place in ranked[:most_per_class]]
    return sorted(chosen)


MOST_PAIRS = 3


def lines(audit: Audit) -> list[str]:
    """Return the lines of the table: a verdict an operation, the figures of its strengths below it."""
    told = [f"Not judged: {line}" for line in audit.left_out]
    if audit.class_names:
        counts = zip(audit.class_names, audit.counts, strict=True)
        judged = ", ".join(f"{name} ({images} images, {groups} groups)" for name, (images, groups) in counts)
        told += [f"Judged: {judged}", ""]
    for verdict in audit.verdicts:
        told.append(f"{verdict.name}: {_headline(verdict, audit.class_names)}")
        for trial, one in audit.measured.items():
            if trial.name == verdict.name and not one.unchanged:
                told.append(f"    {_strength(trial)}  {_figures(one)}")
        for strength, changed, learnt in verdict.unlearnt:
            told.append(
                f"    at {strength:g}: right {changed:.2f} before, {learnt:.2f} after learning the operation: "
                "not learnt yet, the label stays"
            )
    told += [
        "",
        "right: share of held-out images judged right, mean over classes: untouched; changed, by judges that saw",
        "untouched images only; changed, by judges that learnt the operation; untouched, by those.",
        f"Chance that any label is said to move that does not: at most {ERROR_RATE:g} an audit (Holm). What is said to\n"
        "be gone rests on a 95 % bound.",
    ]
    return told


def options_in_words(trial: Trial) -> str:
    """Return the options of a trial as a recipe would have them: `max_deg 15, fill_mode reflect`."""
    return ", ".join(
        f"{name} {_number(getattr(trial.pasted, name))}"
        for name in type(trial.pasted).model_fields
        if name != "apply_probability"
    )


def _strength(trial: Trial) -> str:
    return f"at {trial.strength:<4g} {options_in_words(trial):<28}"


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _figures(one: Measurement) -> str:
    means = [sum(figures[name][0] for figures in one.classes) / len(one.classes) for name in CLASS_FIGURES]
    return (
        f"right {means[0]:.2f} -> {means[1]:.2f}, learnt {means[2]:.2f} ({means[3]:.2f} untouched), "
        f"margin lost {means[4]:.1f}"
    )


def short(verdict: Verdict) -> str:
    """Return up to which strength an operation is safe: `safe up to 0.5`."""
    return f"safe up to {verdict.safe.strength:g}" if verdict.safe else "safe at no strength tried"


def _headline(verdict: Verdict, class_names: Sequence[str]) -> str:
    if verdict.unchanged:
        return "safe: it changes nothing on these images"
    if verdict.state == "safe":
        return short(verdict)
    return f"{reason(verdict, class_names)}; {short(verdict)}"


def reason(verdict: Verdict, class_names: Sequence[str]) -> str:
    """Return why an operation is not safe: `harmful for 6 and 9 (at 0.5): ...` or `undecided: ...`."""
    if verdict.state == "undecided":
        return f"undecided: {'; '.join(verdict.reasons)}"
    lowest = verdict.findings[0].trial.strength
    here = [one for one in verdict.findings if one.trial.strength == lowest]
    names = dict.fromkeys(
        " and ".join(class_names[place] for place in sorted((one.pair.source, one.pair.target)))
        for one in here
    )
    more = f" and {len(names) - MOST_PAIRS} more pairs" if len(names) > MOST_PAIRS else ""
    worst = max(here, key=lambda one: one.pair.taught.value)
    told = _told(worst, class_names)
    return f"harmful for {', '.join([*names][:MOST_PAIRS])}{more} (at {lowest:g}): {told}"


def _told(finding: Finding, class_names: Sequence[str]) -> str:
    pair = finding.pair
    source, target = class_names[pair.source], class_names[pair.target]
    share = f"{max(0.0, pair.taught.value):.0%}"
    if finding.kind == "moves" and pair.among and pair.taught.value <= TAKEN_MARGIN:
        return (
            f"{pair.among.value:.0%} more of {source} lie among untouched {target}, and judges that learnt the operation "
            "take some of the two for each other"
        )
    if finding.kind == "moves":
        return (
            f"{share} more of {source} are taken for {target} even by judges that learnt the operation, and they lie "
            f"where untouched {target} lie"
        )
    return (
        f"{share} more of {source} are taken for {target} even by judges that learnt the operation: what tells the "
        "two apart is gone"
    )


def as_plain(audit: Audit) -> dict[str, Any]:
    """Return everything an audit came to as mappings, lists, numbers and text."""
    return {
        "error_rate": ERROR_RATE,
        "classes": {
            name: {"images": images, "groups": groups}
            for name, (images, groups) in zip(audit.class_names, audit.counts, strict=True)
        },
        "left_out": list(audit.left_out),
        "operations": [_verdict(verdict, audit) for verdict in audit.verdicts],
    }


def _verdict(verdict: Verdict, audit: Audit) -> dict[str, Any]:
    names = audit.class_names
    return {
        "name": verdict.name,
        "verdict": verdict.state,
        "safe_up_to": verdict.safe.strength if verdict.safe else None,
        "unchanged": verdict.unchanged,
        "reason": "" if verdict.state == "safe" else reason(verdict, names),
        "findings": [
            {
                "strength": one.trial.strength,
                "kind": one.kind,
                "class": names[one.pair.source],
                "taken_for": names[one.pair.target],
            }
            for one in verdict.findings
        ],
        "strengths": [
            _trial(trial, one, audit) for trial, one in audit.measured.items() if trial.name == verdict.name
        ],
    }


def _trial(trial: Trial, one: Measurement, audit: Audit) -> dict[str, Any]:
    names = audit.class_names
    return {
        "strength": trial.strength,
        "options": trial.pasted.model_dump(),
        "unchanged": one.unchanged,
        "classes": {
            name: {
                figure: {"value": value, "low": low, "high": high}
                for figure, (value, low, high) in figures.items()
            }
            for name, figures in zip(names, one.classes, strict=False)
        },
        "pairs": [_pair(pair, names) for (which, _, _), pair in audit.pairs.items() if which == trial],
    }


def _pair(pair: Pair, names: Sequence[str]) -> dict[str, Any]:
    plain = dataclasses.asdict(pair)
    plain["class"], plain["taken_for"] = names[plain.pop("source")], names[plain.pop("target")]
    return plain


LINE_WIDTH = 10_000


def policy_yaml(verdicts: Sequence[Verdict], class_names: Sequence[str]) -> str:
    """Return the block as YAML text that a recipe can hold.

    What changes nothing on these images is left out, too.
    """
    kept, left = [], []
    for verdict in verdicts:
        if verdict.unchanged:
            left.append(f"  # {verdict.name}: changes nothing on these images")
            continue
        if verdict.safe is not None:
            why = "" if verdict.state == "safe" else f"   # {short(verdict)}"
            kept.append(f"  - {_flow(verdict.safe)}{why}")
        if verdict.state != "safe":
            above = f" above {verdict.safe.strength:g}" if verdict.safe else ""
            left.append(f"  # {verdict.name}{above} left out, {reason(verdict, class_names)}")
    if not kept:
        return "\n".join(["augment: []", *left]) + "\n"
    return "\n".join(["augment:", *kept, *left]) + "\n"


def _flow(trial: Trial) -> str:
    values: dict[str, object] = {"name": trial.name}
    for name, field in type(trial.pasted).model_fields.items():
        value = getattr(trial.pasted, name)
        if field.is_required() or value != field.default:
            values[name] = _plain(value)
    return to_yaml(values, in_one_line=True)


def _plain(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return [_plain(one) for one in value] if isinstance(value, tuple) else value

"""From measurements to verdicts: operations that change a label, that remove what separates classes, and that are safe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from kerastl.audit.measure import Committee, Measurement, Pair, Trial, holm

ERROR_RATE = 0.05
"""Probability that an audit reports any label change although there is none, half of it for each of the two stages.
Losses of information are decided outside of the second stage."""
NEIGHBOR_LEVEL_SHARE = 0.1
"""Share of the level of stage two for the nearest-neighbor test, which errs more often than the classifiers: in a
sparse space, the nearest images of some images are of another class whatever they show."""
SAFE_BELOW = 0.10
"""An operation is safe if at most this fraction of a class can have changed its label."""
CLEARED_BELOW = 0.03
"""The same for the fraction from the follow-up tests."""
MIN_SUSPICIOUS_INCREASE = 0.02
"""Increase by classifiers trained on augmented images below which the follow-up tests are skipped."""
MIN_SEPARABILITY = 0.5
"""Classes whose original images are separated less well (1 always, 0 by chance) allow no verdict."""
ERASED_BELOW = 0.5
"""The separability ratio below which the information that separates two classes counts as lost."""

Kind = Literal["label_change", "information_loss"]
State = Literal["harmful", "undecided", "safe"]


@dataclass(frozen=True)
class Finding:
    """A harmful effect of an operation at one strength on one class.

    Args:
        trial: The operation and its strength.
        kind: `label_change`: images fall in the region of another class. `information_loss`: two classes can no longer
            be separated, not even by a classifier trained on augmented images.
        pair: The two classes and their measurements.
    """

    trial: Trial
    kind: Kind
    pair: Pair


@dataclass(frozen=True)
class Verdict:
    """The verdict on one operation.

    Args:
        name: Name of the operation.
        state: `harmful` at some strength, `safe` at all tested strengths, or `undecided`.
        safe: The strongest trial up to which all are safe; None if there is none.
        findings: Harmful effects, from the lowest strength.
        reasons: Why a strength is undecided, one line each.
        needs_training: (strength, accuracy on augmented images without and with training on them) of safe trials that
            reduce the accuracy of a model that is not trained on them.
        unchanged: Whether the operation leaves these images unchanged.
    """

    name: str
    state: State
    safe: Trial | None
    findings: tuple[Finding, ...]
    reasons: tuple[str, ...]
    needs_training: tuple[tuple[float, float, float], ...]
    unchanged: bool


FollowUpTest = Callable[[Trial, Pair, bool], Pair]
"""Takes a trial, a pair, and whether it is suspicious, which needs more draws; adds the follow-up results to the pair."""


def find_harmful(
    measured: Mapping[Trial, Measurement], follow_up: FollowUpTest
) -> tuple[dict[tuple[Trial, int, int], Pair], list[Finding]]:
    """Return all pairs with their measurements, and the harmful effects.

    Stage one tests for each operation, strength and ordered pair of classes whether classifiers trained on original
    images confuse more augmented images than the margin. Stage two tests those pairs on fresh draws: whether
    classifiers trained on augmented images confuse them, too, and whether the images are in the region of the other
    class. It is skipped, as not significant, where such classifiers hardly confused any image. Holm's method keeps the
    probability of a false label change in each stage below half of `ERROR_RATE`. Pairs that are not suspicious but have
    too few images for a safe verdict are followed up, too, but only to clear them.

    Args:
        measured: Measurements by trial.
        follow_up: `FollowUp.test` on fresh draws of a trial.
    """
    pairs = {
        (trial, pair.source, pair.target): pair
        for trial, measurement in measured.items()
        for pair in measurement.pairs
    }
    keys = list(pairs)
    significant = holm([pairs[key].plain.p_value for key in keys], level=ERROR_RATE / 2)
    confused = [key for key, is_significant in zip(keys, significant, strict=True) if is_significant]
    suspicious = {key for key in confused if pairs[key].augmented.value > MIN_SUSPICIOUS_INCREASE}
    for key in keys:
        if key in suspicious or _max_changed(pairs[key]) >= SAFE_BELOW:
            pairs[key] = follow_up(key[0], pairs[key], key in suspicious)
    # Skipped pairs count, too, because they were selected by the data.
    p_values = [_follow_up_p_value(pairs[key]) if key in suspicious else 1.0 for key in confused]
    changes = holm(p_values, level=ERROR_RATE / 2)
    findings = []
    for key, changes_label in zip(confused, changes, strict=True):
        if changes_label:
            findings.append(Finding(key[0], "label_change", pairs[key]))
        elif pairs[key].separability_upper < ERASED_BELOW:
            findings.append(Finding(key[0], "information_loss", pairs[key]))
    return pairs, findings


def _follow_up_p_value(pair: Pair) -> float:
    """Return the p-value of stage two, which combines two tests with unequal levels (weighted Bonferroni).

    By classifiers: more images than the margin are confused after training on augmented images, and some are in the
    region of the other class according to classifiers or neighbors (a Bonferroni factor of 2). By neighbors: some
    images are confused, and more than the margin are in the region of the other class.
    """
    tests = (
        pair.augmented_fresh, pair.augmented_mutual, pair.target_original, pair.neighbors, pair.neighbors_many,
    )  # fmt: skip
    fresh, mutual, target_original, neighbors, neighbors_many = (
        test.p_value if test else 1.0 for test in tests
    )
    by_classifiers = max(fresh, 2 * min(target_original, neighbors))
    by_neighbors = max(mutual, neighbors_many)
    return min(1.0, by_classifiers / (1 - NEIGHBOR_LEVEL_SHARE), by_neighbors / NEIGHBOR_LEVEL_SHARE)


def verdict_of(
    name: str,
    measured: Mapping[Trial, Measurement],
    pairs: Mapping[tuple[Trial, int, int], Pair],
    findings: Sequence[Finding],
    committee: Committee,
    class_names: Sequence[str],
) -> Verdict:
    """Return the verdict on one operation over all strengths.

    An operation that is harmful at one strength is harmful above it, too, because a wider range includes the narrower.
    """
    trials = sorted((trial for trial in measured if trial.name == name), key=lambda trial: trial.strength)
    harmful = sorted(
        (finding for finding in findings if finding.trial.name == name),
        key=lambda finding: finding.trial.strength,
    )
    lowest = harmful[0].trial.strength if harmful else 2.0
    safe: Trial | None = None
    reasons: list[str] = []
    for trial in trials:
        doubts = _doubts(trial, measured[trial], pairs, committee, class_names)
        if trial.strength >= lowest or doubts:
            if trial.strength < lowest:
                reasons = doubts
            break
        safe = trial
    state: State = "harmful" if harmful else "undecided" if reasons else "safe"
    needs_training = [
        (trial.strength, *accuracies)
        for trial in trials
        if trial.strength < lowest and (accuracies := _restored_accuracy(measured[trial])) is not None
    ]
    unchanged = all(measured[trial].unchanged for trial in trials)
    return Verdict(name, state, safe, tuple(harmful), tuple(reasons), tuple(needs_training), unchanged)


def _doubts(
    trial: Trial,
    measurement: Measurement,
    pairs: Mapping[tuple[Trial, int, int], Pair],
    committee: Committee,
    class_names: Sequence[str],
) -> list[str]:
    """Return the reasons why a trial cannot be called safe, one line each."""
    if measurement.unchanged:
        return []
    too_few, inseparable, uncertain = [], [], []
    for (pair_trial, source, target), pair in pairs.items():
        if pair_trial != trial:
            continue
        names = class_names[source], class_names[target]
        is_small = [committee.groups_per_class[label] < committee.min_groups for label in (source, target)]
        if any(is_small):
            too_few.append(names[0] if is_small[0] else names[1])
        elif committee.separability(source, target) < MIN_SEPARABILITY:
            inseparable.append(" and ".join(sorted(names)))
        elif _max_changed(pair) >= SAFE_BELOW:
            uncertain.append(f"{names[0]} as {names[1]} (up to {_max_changed(pair):.0%})")
    reasons = []
    if too_few:
        reasons.append(f"fewer than {committee.min_groups} groups of {_shortened(too_few)}")
    if inseparable:
        reasons.append(f"the classifiers do not separate the original images of {_shortened(inseparable)}")
    if uncertain:
        reasons.append(f"too few images to rule out label changes: {_shortened(uncertain)}")
    return reasons


def _max_changed(pair: Pair) -> float:
    """Return an upper bound of the fraction of images whose label changed.

    It is the upper bound of the fraction that the classifiers confuse. Classifiers trained on augmented images assign
    images that two classes share to either of them, so their fraction counts twice. Artifacts of the operation (filled
    borders, resampling) can hide label changes from the follow-up tests, which therefore clear a pair only if they find
    next to nothing.
    """
    follow_up = [increase.upper for increase in (pair.target_original, pair.neighbors) if increase]
    if follow_up and max(follow_up) < CLEARED_BELOW:
        return 0.0
    return max(0.0, min(pair.plain.upper, 2 * pair.augmented.upper))


def _shortened(names: Sequence[str], limit: int = 3) -> str:
    distinct = list(dict.fromkeys(names))
    more = f" and {len(distinct) - limit} more" if distinct[limit:] else ""
    return ", ".join(distinct[:limit]) + more


MIN_ACCURACY_LOSS = 0.10
"""Decrease of the mean accuracy over classes that is reported."""
RESTORED = 0.5
"""Fraction of the decrease that training on augmented images must restore."""


def _restored_accuracy(measurement: Measurement) -> tuple[float, float] | None:
    """Return the accuracy on augmented images without and with training on them, if training restores a large loss."""
    if measurement.unchanged:
        return None
    original, augmented, trained = (
        mean_metric(measurement, name)
        for name in ("accuracy", "accuracy_augmented", "accuracy_after_training")
    )
    loss = original - augmented
    is_restored = loss > MIN_ACCURACY_LOSS and trained - augmented >= RESTORED * loss
    return (augmented, trained) if is_restored else None


def mean_metric(measurement: Measurement, name: str) -> float:
    """Return the mean of a metric over classes."""
    return sum(metrics[name][0] for metrics in measurement.classes) / len(measurement.classes)

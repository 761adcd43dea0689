"""Audit operations on one dataset: from features to verdicts, to tables and to a safe policy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, lru_cache, partial
from typing import Any, Literal

import numpy as np

from kerastl import recipe as recipes
from kerastl.audit.measure import (
    CLASS_METRICS,
    CONFUSION_MARGIN,
    FINE_MARGIN,
    PROBABILITY,
    Committee,
    FeatureSet,
    Measurement,
    Pair,
    Trial,
    holm,
)
from kerastl.console import track
from kerastl.errors import pluralize
from kerastl.evaluation.bootstrap import MIN_GROUPS, resample, single_threaded
from kerastl.tasks import SINGLE_LABEL

TASKS = (SINGLE_LABEL,)
"""The tasks that this package supports."""
Array = np.ndarray[Any, Any]

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


PairTest = Callable[[Pair], Pair]
"""Adds the results of the follow-up tests to a pair."""


def find_harmful(
    measured: Mapping[Trial, Measurement], follow_up: Callable[[Trial, int], PairTest], num_fresh: int
) -> tuple[dict[Trial, Measurement], list[Finding]]:
    """Return the measurements with the results of the follow-up tests, and the harmful effects.

    Stage one tests for each operation, strength and ordered pair of classes whether classifiers trained on original
    images confuse more augmented images than the margin. Stage two tests those pairs on fresh draws: whether
    classifiers trained on augmented images confuse them, too, and whether the images are in the region of the other
    class. It is skipped, as not significant, where such classifiers hardly confused any image. Holm's method keeps the
    probability of a false label change in each stage below half of `ERROR_RATE`. Pairs that are not suspicious but have
    too few images for a safe verdict are followed up, too, but only to clear them.

    Args:
        measured: Measurements by trial.
        follow_up: Returns the follow-up test of a trial, given the number of fresh draws.
        num_fresh: Number of draws for suspicious pairs. The others need fewer.
    """
    pairs = [(trial, pair) for trial, measurement in measured.items() for pair in measurement.pairs]
    significant = holm([pair.plain.p_value for _, pair in pairs], level=ERROR_RATE / 2)
    tested: dict[Trial, list[Pair]] = {trial: [] for trial in measured}
    confused, p_values = [], []
    for (trial, pair), is_confused in zip(pairs, significant, strict=True):
        is_suspicious = is_confused and pair.augmented.value > MIN_SUSPICIOUS_INCREASE
        needs_test = is_suspicious or _max_changed(pair) >= SAFE_BELOW
        num_draws = num_fresh if is_suspicious else DRAWS
        tested[trial].append(follow_up(trial, num_draws)(pair) if needs_test else pair)
        if is_confused:
            confused.append((trial, tested[trial][-1]))
            # Skipped pairs also count, because they were selected by the data.
            p_values.append(_follow_up_p_value(tested[trial][-1]) if is_suspicious else 1.0)
    findings = []
    for (trial, pair), changes_label in zip(confused, holm(p_values, level=ERROR_RATE / 2), strict=True):
        if changes_label:
            findings.append(Finding(trial, "label_change", pair))
        elif pair.separability_upper < ERASED_BELOW:
            findings.append(Finding(trial, "information_loss", pair))
    followed_up = {trial: replace(measured[trial], pairs=tested[trial]) for trial in measured}
    return followed_up, findings


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
    findings: Sequence[Finding],
    committee: Committee,
    class_names: Sequence[str],
) -> Verdict:
    """Return the verdict on one operation over all strengths.

    An operation that is harmful at one strength is harmful above it, too, because a wider range includes the narrower.
    """
    trials = [trial for trial in measured if trial.name == name]
    harmful = [finding for finding in findings if finding.trial.name == name]
    lowest = harmful[0].trial.strength if harmful else 2.0
    harmless = [trial for trial in trials if trial.strength < lowest]
    safe: Trial | None = None
    reasons: list[str] = []
    for trial in harmless:
        reasons = _doubts(measured[trial], committee, class_names)
        if reasons:
            break
        safe = trial
    state: State = "harmful" if harmful else "undecided" if reasons else "safe"
    needs_training = [
        (trial.strength, *accuracies)
        for trial in harmless
        if (accuracies := _restored_accuracy(measured[trial])) is not None
    ]
    unchanged = all(measured[trial].unchanged for trial in trials)
    return Verdict(name, state, safe, tuple(harmful), tuple(reasons), tuple(needs_training), unchanged)


def _doubts(measurement: Measurement, committee: Committee, class_names: Sequence[str]) -> list[str]:
    """Return the reasons why a trial cannot be called safe, one line each."""
    groups_per_class = committee.data.groups_per_class
    too_few, inseparable, uncertain = [], [], []
    for pair in measurement.pairs:
        names = class_names[pair.source], class_names[pair.target]
        is_small = [groups_per_class[label] < MIN_GROUPS for label in (pair.source, pair.target)]
        if any(is_small):
            too_few.append(names[0] if is_small[0] else names[1])
        elif committee.separability(pair.source, pair.target) < MIN_SEPARABILITY:
            inseparable.append(" and ".join(sorted(names)))
        elif _max_changed(pair) >= SAFE_BELOW:
            uncertain.append(f"{names[0]} as {names[1]} (up to {_max_changed(pair):.0%})")
    doubts = {
        f"fewer than {MIN_GROUPS} groups of": too_few,
        "the classifiers do not separate the original images of": inseparable,
        "too few images to rule out label changes:": uncertain,
    }
    return [f"{reason} {_shortened(names)}" for reason, names in doubts.items() if names]


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


MAX_SHOWN = 3


def _shortened(names: Iterable[str], noun: str = "") -> str:
    """Join the first distinct names and count the others, e.g. `a, b, c and 2 more`."""
    distinct = list(dict.fromkeys(names))
    more = f" and {len(distinct) - MAX_SHOWN} more{noun}" if len(distinct) > MAX_SHOWN else ""
    return ", ".join(distinct[:MAX_SHOWN]) + more


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
    return float(sum(metrics[name]["value"] for metrics in measurement.classes) / len(measurement.classes))


def follow_up_test(committee: Committee, draws: Sequence[Array]) -> PairTest:
    """Return a test of whether confused images are in the region of the other class.

    Classifiers trained on augmented images of all classes show whether a model can learn the operation. Classifiers
    trained on augmented images of all classes except the target predict the target only where its original images
    are denser. The third test counts the images whose nearest neighbors are original images of the target.

    Args:
        committee: The classifiers.
        draws: Features of freshly augmented images, as in `Committee.measure`.
    """
    classes = range(committee.num_classes)
    augmented = committee.predict_after_training(draws, classes)
    original = committee.original_predictions
    neighbors_original = committee.neighbor_classifier.predict(committee.data.features)
    neighbors = np.stack([committee.neighbor_classifier.predict(draw) for draw in draws])

    @cache
    def target_original(target: int) -> Array:
        return committee.predict_after_training(draws, [label for label in classes if label != target])

    def test(pair: Pair) -> Pair:
        increase = partial(committee.increase, source=pair.source, target=pair.target)
        return replace(
            pair,
            augmented_fresh=increase(augmented, original, margin=CONFUSION_MARGIN),
            augmented_mutual=committee.mutual_increase(augmented, pair.source, pair.target),
            target_original=increase(target_original(pair.target), original, margin=FINE_MARGIN),
            neighbors=increase(neighbors, neighbors_original, margin=FINE_MARGIN),
            neighbors_many=increase(neighbors, neighbors_original, margin=CONFUSION_MARGIN),
        )

    return test


AugmentedFeatures = Callable[[Trial, int], Array]
"""Takes a trial and the number of a draw; returns the features of all images, augmented: `[n, width]` float32."""

DRAWS = 2
FRESH_DRAWS = 8
"""Draws of the follow-up tests of suspicious pairs, other than the draws that made them suspicious."""
MAX_FRESH_IMAGES = 4000
"""Augmented images of a follow-up test; with many images, fewer draws are enough."""
MIN_GROUPS_PER_CLASS = 3
RESAMPLES = 1000


@dataclass(frozen=True)
class AuditResult:
    """The result of an audit.

    Args:
        class_names: The audited classes.
        counts: (images, groups) of each class, by name.
        excluded: One line per class that could not be audited.
        measured: Measurements by trial.
        verdicts: One per operation, in the order of the trials.
    """

    class_names: tuple[str, ...]
    counts: dict[str, tuple[int, int]]
    excluded: tuple[str, ...]
    measured: dict[Trial, Measurement]
    verdicts: tuple[Verdict, ...]


@single_threaded()
def audit(
    features: Array,
    labels: Sequence[str],
    groups: Sequence[str],
    trials: Sequence[Trial],
    augmented_features: AugmentedFeatures,
    *,
    widths: Sequence[int],
    seed: int,
) -> AuditResult:
    """Find operations that do not preserve the label, by strength and class.

    Args:
        features: `[n, width]` float32 of the original images.
        labels: Class of each image.
        groups: Group of each image, such as the patient; a name of its own for an image without a group.
        trials: Operations at strengths, those of an operation from the weakest to the strongest.
        augmented_features: Returns the features of the same images, augmented.
        widths: Widths of the parts of the features. All parts have the same weight.
        seed: Seed of the folds and of the bootstrap resamples.
    """
    rows, names, excluded = _usable_rows(labels, groups)
    if len(names) < 2:
        return _inconclusive_audit(trials, excluded)
    label_indices = SINGLE_LABEL.encode([labels[row] for row in rows], names)
    drawn = resample([groups[row] for row in rows], label_indices, seed=seed, resamples=RESAMPLES)
    data = FeatureSet(np.asarray(features)[rows], label_indices, drawn.group_of, tuple(widths), seed)
    committee = Committee(data, drawn.counts[:, drawn.group_of].astype(np.float32))
    measured = {
        trial: committee.measure([augmented_features(trial, draw)[rows] for draw in range(DRAWS)])
        for trial in track(trials, "auditing", len(trials))
    }

    # Two entries: the draws of one trial for suspicious pairs, and those for the other pairs.
    @lru_cache(maxsize=2)
    def follow_up(trial: Trial, num_draws: int) -> PairTest:
        draws = [augmented_features(trial, DRAWS + draw)[rows] for draw in range(num_draws)]
        return follow_up_test(committee, draws)

    num_fresh = min(FRESH_DRAWS, max(DRAWS, MAX_FRESH_IMAGES // len(rows)))
    measured, findings = find_harmful(measured, follow_up, num_fresh)
    verdicts = tuple(
        verdict_of(name, measured, findings, committee, names)
        for name in dict.fromkeys(trial.name for trial in trials)
    )
    num_images = np.bincount(label_indices).tolist()
    counts = dict(zip(names, zip(num_images, data.groups_per_class, strict=True), strict=True))
    return AuditResult(names, counts, excluded, measured, verdicts)


@dataclass(frozen=True)
class Audited:
    """An audit and its images.

    Args:
        result: The verdicts and measurements.
        paths: The path of each image.
        labels: The class of each image.
        images: `[n, height, width, 3]` uint8.
        augment: Returns the images augmented by a trial, for the number of a draw: `[n, height, width, 3]`
            uint8.
        notes: One line each about the features and the data.
    """

    result: AuditResult
    paths: tuple[str, ...]
    labels: tuple[str, ...]
    images: Array
    augment: Callable[[Trial, int], Array]
    notes: tuple[str, ...]


def _usable_rows(
    labels: Sequence[str], groups: Sequence[str]
) -> tuple[list[int], tuple[str, ...], tuple[str, ...]]:
    """Return the rows of classes with enough groups, these classes in order of appearance, and why others are excluded."""
    groups_by_label: dict[str, set[str]] = {}
    for label, group in zip(labels, groups, strict=True):
        groups_by_label.setdefault(label, set()).add(group)
    counts = {label: len(members) for label, members in groups_by_label.items()}
    rare = {label: count for label, count in counts.items() if count < MIN_GROUPS_PER_CLASS}
    excluded = tuple(
        f"{label} has {pluralize(count, 'group')} "
        f"(at least {MIN_GROUPS_PER_CLASS} are needed for cross-validation by group)"
        for label, count in rare.items()
    )
    names = tuple(name for name in groups_by_label if name not in rare)
    return [row for row, label in enumerate(labels) if label not in rare], names, excluded


def _inconclusive_audit(trials: Sequence[Trial], excluded: tuple[str, ...]) -> AuditResult:
    """Return an audit of fewer than two classes, in which every operation is undecided."""
    reasons = (f"fewer than two classes have at least {MIN_GROUPS_PER_CLASS} groups (patients, scenes)",)
    verdicts = tuple(
        Verdict(name, "undecided", None, (), reasons, (), False)
        for name in dict.fromkeys(trial.name for trial in trials)
    )
    return AuditResult((), {}, excluded, {}, verdicts)


def sample_per_class(
    labels: Sequence[str], groups: Sequence[str], *, most_per_class: int, seed: int
) -> list[int]:
    """Return the indices of a random sample with at most `most_per_class` images per class, from as many groups as possible.

    Every group contributes its first image before any contributes its second.

    Args:
        labels, groups: Of each image.
        most_per_class: Maximum number of images.
        seed: Seed of the order.
    """
    generator = np.random.default_rng(seed)
    chosen: list[int] = []
    for label in sorted(set(labels)):
        rows = np.flatnonzero(np.asarray(labels, object) == label)
        order = rows[generator.permutation(len(rows))]
        taken = Counter[str]()
        rounds = []
        for row in order:
            rounds.append(taken[groups[row]])
            taken[groups[row]] += 1
        chosen += order[np.argsort(rounds, kind="stable")[:most_per_class]].tolist()
    return sorted(chosen)


def format_lines(result: AuditResult) -> list[str]:
    """Return the lines of the table: the verdict on each operation, and the measurements of its strengths."""
    lines = [f"Excluded: {line}" for line in result.excluded]
    if result.class_names:
        classes = ", ".join(
            f"{name} ({images} images, {groups} groups)" for name, (images, groups) in result.counts.items()
        )
        lines += [f"Classes: {classes}", ""]
    for verdict in result.verdicts:
        lines.append(f"{verdict.name}: {_headline(verdict, result.class_names)}")
        measured = [
            (trial, format_options(trial), measurement)
            for trial, measurement in result.measured.items()
            if trial.name == verdict.name and not measurement.unchanged
        ]
        width = max((len(options) for _, options, _ in measured), default=0)
        for trial, options, measurement in measured:
            lines.append(f"    at {trial.strength:<4g} {options:<{width}}  {_format_accuracy(measurement)}")
        for strength, augmented, trained in verdict.needs_training:
            lines.append(
                f"    at {strength:g}: accuracy on augmented images {augmented:.2f}, {trained:.2f} after training on them: "
                "the label is preserved, but a model must be trained on this operation"
            )
    lines += [
        "",
        "accuracy: on held-out images, mean over classes, original -> augmented",
        "after training: accuracy of classifiers trained on augmented images, on augmented (original) images",
        f"The probability that an audit reports any false label change is at most {ERROR_RATE:g} (Holm's procedure).",
        "A loss of information is reported based on a one-sided 95% bound.",
    ]
    return lines


def format_options(trial: Trial) -> str:
    """Return the options of a trial as in a recipe: `max_deg 15, fill_mode reflect`."""
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in trial.recipe_options
        if name != PROBABILITY
    )


def _format_accuracy(measurement: Measurement) -> str:
    means = [mean_metric(measurement, name) for name in CLASS_METRICS]
    return (
        f"accuracy {means[0]:.2f} -> {means[1]:.2f}, after training {means[2]:.2f} ({means[3]:.2f}), "
        f"margin loss {means[4]:.1f}"
    )


def _safe_range(verdict: Verdict) -> str:
    return f"safe up to {verdict.safe.strength:g}" if verdict.safe else "not safe at any tested strength"


def _headline(verdict: Verdict, class_names: Sequence[str]) -> str:
    if verdict.unchanged:
        return "safe: it leaves these images unchanged"
    if verdict.state == "safe":
        return _safe_range(verdict)
    return f"{_reason(verdict, class_names)}; {_safe_range(verdict)}"


def _reason(verdict: Verdict, class_names: Sequence[str]) -> str:
    """Return why an operation is not safe: `harmful for 6 and 9 (at 0.5): ...` or `undecided: ...`."""
    if verdict.state == "undecided":
        return f"undecided: {'; '.join(verdict.reasons)}"
    lowest = verdict.findings[0].trial.strength
    findings = [finding for finding in verdict.findings if finding.trial.strength == lowest]
    pairs = (
        " and ".join(class_names[label] for label in sorted((finding.pair.source, finding.pair.target)))
        for finding in findings
    )
    worst = max(findings, key=lambda finding: finding.pair.augmented.value)
    evidence = _evidence(worst, class_names)
    return f"harmful for {_shortened(pairs, ' pairs')} (at {lowest:g}): {evidence}"


def _evidence(finding: Finding, class_names: Sequence[str]) -> str:
    pair = finding.pair
    source, target = class_names[pair.source], class_names[pair.target]
    confused = (
        f"{max(0.0, pair.augmented.value):.0%} more {source} images are predicted as {target}, even by classifiers "
        "trained on augmented images"
    )
    if finding.kind == "information_loss":
        return f"{confused}, which no longer separate the two classes"
    if pair.neighbors and pair.augmented.value <= CONFUSION_MARGIN:
        return (
            f"{pair.neighbors.value:.0%} more {source} images are among the original {target} images, and classifiers "
            "trained on augmented images confuse some images of the two classes"
        )
    return f"{confused}, and they are among the original {target} images"


def as_plain(result: AuditResult) -> dict[str, Any]:
    """Return an audit as dicts, lists, numbers and text, the content of `audit.json`."""
    names = result.class_names
    return {
        "error_rate": ERROR_RATE,
        "classes": {
            name: {"images": images, "groups": groups} for name, (images, groups) in result.counts.items()
        },
        "excluded": list(result.excluded),
        "operations": [
            {
                "name": verdict.name,
                "verdict": verdict.state,
                "safe_up_to": verdict.safe.strength if verdict.safe else None,
                "unchanged": verdict.unchanged,
                "reason": "" if verdict.state == "safe" else _reason(verdict, names),
                "findings": [
                    {
                        "strength": finding.trial.strength,
                        "kind": finding.kind,
                        "class": names[finding.pair.source],
                        "predicted": names[finding.pair.target],
                    }
                    for finding in verdict.findings
                ],
                "strengths": [
                    _plain_trial(trial, measurement, names)
                    for trial, measurement in result.measured.items()
                    if trial.name == verdict.name
                ],
            }
            for verdict in result.verdicts
        ],
    }


def _plain_trial(trial: Trial, measurement: Measurement, names: Sequence[str]) -> dict[str, Any]:
    pairs = [asdict(pair) for pair in measurement.pairs]
    for pair in pairs:
        pair["class"], pair["predicted"] = names[pair.pop("source")], names[pair.pop("target")]
    return {
        "strength": trial.strength,
        "options": trial.recipe_options.model_dump(),
        "unchanged": measurement.unchanged,
        "classes": dict(zip(names, measurement.classes, strict=False)),
        "pairs": pairs,
    }


def policy_yaml(verdicts: Sequence[Verdict], class_names: Sequence[str]) -> str:
    """Return the safe operations as the `augment` section of a recipe; comments list the others."""
    operations, comments = [], []
    for verdict in verdicts:
        if verdict.unchanged:
            comments.append(f"  # {verdict.name} is omitted: it leaves these images unchanged")
            continue
        if verdict.safe is not None:
            comment = "" if verdict.state == "safe" else f"   # {_safe_range(verdict)}"
            operations.append(f"  - {_operation_yaml(verdict.safe)}{comment}")
        if verdict.state != "safe":
            above = f" above {verdict.safe.strength:g}" if verdict.safe else ""
            comments.append(f"  # {verdict.name}{above} is omitted: {_reason(verdict, class_names)}")
    first = "augment:" if operations else "augment: []"
    return "\n".join([first, *operations, *comments]) + "\n"


def _operation_yaml(trial: Trial) -> str:
    changed = trial.recipe_options.model_dump(exclude_defaults=True)
    values = {
        name: value for name, value in recipes.as_plain(trial.recipe_options).items() if name in changed
    }
    return recipes.to_yaml({"name": trial.name, **_rounded(values)}, in_one_line=True)


def _rounded(value: Any) -> Any:
    """Return nested dictionaries and lists with numbers rounded to 6 significant digits."""
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value

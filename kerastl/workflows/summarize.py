"""Summarize a run for the terminal, the report and the model card: its data, phases, kept model and score."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from kerastl.data import CheckedImages, Record
from kerastl.data.records import natural_order
from kerastl.errors import pluralize
from kerastl.evaluation import MIN_GROUPS
from kerastl.evaluation.scores import MIN_CLASS_IMAGES
from kerastl.report import printable, tables
from kerastl.report.facts import format_monitor
from kerastl.runs import Adaptation, PhaseSummary, Run, Scores, Summary
from kerastl.runs.summary import Confusion, DataSummary, Headline, Kept, Range

COLOR_OPERATIONS = {"random_hue", "random_saturation", "random_color_jitter", "random_color_degeneration"}
MIN_TEST_IMAGES = 50
MAX_LISTED = 8
MAX_IMBALANCE = 10
MOST = 0.5
"""The share of images, or pixels, above which a warning is printed."""


def summarize_data(
    path: str, images: CheckedImages, records: Sequence[Record], *, augment: Collection[str] = ()
) -> DataSummary:
    """Summarize the images of one domain.

    Args:
        path: The folder or the table that was read.
        images: The images that were read and decoded.
        records: Those that the run uses, each in its split.
        augment: The names of the augmentation operations, for warnings.
    """
    names = [*natural_order(record.label for record in records if record.label), ""]
    classes = Counter(record.label or "" for record in records)
    splits = {record.split or "": Counter[str]() for record in records}
    for record in records:
        splits[record.split or ""][record.label or ""] += 1
    grouped = {(record.split, record.domain, record.group) for record in records if record.group}
    groups = Counter(split or "" for split, _, _ in grouped)
    num_groups = {**groups, "all": len({group[1:] for group in grouped})} if groups else {}
    labels = {record.path: record.label for record in images.collection.records}
    checks = images.checks
    data = DataSummary(
        path=path,
        images=len(records),
        classes={name: classes[name] for name in names if classes[name]},
        splits={split: dict(by_class) for split, by_class in splits.items()},
        groups=num_groups,
        kinds=dict(Counter(check.kind for check in checks).most_common()),
        width_px=_range([check.width for check in checks]),
        height_px=_range([check.height for check in checks]),
        gray=sum(check.is_gray for check in checks),
        images_16_bit=sum(check.is_16_bit for check in checks),
        withheld=sum(record.label is None and labels.get(record.path) is not None for record in records),
        unreadable=len(images.quarantined),
        ignored=dict(images.collection.ignored),
    )
    return data.model_copy(update={"warnings": tuple(_warnings(data, len(checks), set(augment)))})


def _range(sizes: Sequence[int]) -> Range:
    return Range(smallest=min(sizes), median=round(statistics.median(sizes)), largest=max(sizes))


def _warnings(data: DataSummary, num_images: int, augment: set[str]) -> Iterator[str]:
    """Warn about images that are too few, unbalanced, or stored in different ways."""
    for split in data.splits.keys() & {"test", "target_test"}:
        yield from _test_warnings(data, split)
    train = {name: count for name, count in data.splits.get("train", {}).items() if name}
    least, most = (choose(train, key=train.__getitem__, default="") for choose in (min, max))
    if train and train[most] >= MAX_IMBALANCE * train[least]:
        counts = (
            f"{train[most]:,} training images of {printable(most)}, {train[least]:,} of {printable(least)}"
        )
        yield f"The classes are imbalanced: {counts}. To weight them, add class_weights: balanced to the phases."
    without_effect = ", ".join(sorted(augment & COLOR_OPERATIONS))
    if MOST * num_images < data.gray < num_images:
        yield f"Most images are gray ({data.gray:,} of {num_images:,}). The model may distinguish the classes by color."
    elif data.gray == num_images and without_effect:
        yield f"All images are gray, so that {without_effect} has no effect."
    if 0 < data.images_16_bit < num_images:
        counts = f"{data.images_16_bit:,} of {num_images:,} images have 16 bits"
        yield f"The bit depth is mixed: {counts}. The window applies to these only."


def _test_warnings(data: DataSummary, split: str) -> Iterator[str]:
    """Warn about test images that are too few for a reliable score."""
    labeled = {name: count for name, count in data.splits[split].items() if name}
    counts = {name: labeled.get(name, 0) for name in data.classes if name}
    few = [f"{printable(name)} {count}" for name, count in counts.items() if count < MIN_CLASS_IMAGES]
    total, groups = sum(labeled.values()), data.groups.get(split, 0)
    if labeled and few:
        more = f" and {len(few) - MAX_LISTED} more" if len(few) > MAX_LISTED else ""
        listed = ", ".join(few[:MAX_LISTED])
        yield f"Fewer than {MIN_CLASS_IMAGES} test images, so that scores are unreliable: {listed}{more}."
    if 0 < total < MIN_TEST_IMAGES:
        yield f"Only {pluralize(total, 'labeled test image')}: the intervals of the scores will be wide."
    if 0 < groups < MIN_GROUPS:
        yield f"Only {pluralize(groups, 'test group')}: intervals need at least {MIN_GROUPS}."


def write_summary(
    run: Run, start: Summary | None = None, phases: Sequence[PhaseSummary] = (), candidate: str | None = None
) -> None:
    """Write `summary.json`, with the overall scores of the run and of the runs in its folder, by split.

    A run that only contains other runs has no scores and no model of its own.

    Args:
        run: A run folder with its scores.
        start: What was known before training. None keeps the facts of the existing file.
        phases: The phases that trained the kept model, in order.
        candidate: The name of the candidate, for the run folder of a candidate.
    """
    folders = {".": run.path} | {path.name: path for path in sorted(run.file("runs").glob("*"))}
    scores = {name: of_run for name, path in folders.items() if (of_run := Scores.read_if_present(path))}
    overall = {
        name: {split: of_split.overall for split, of_split in of_run.splits.items()}
        for name, of_run in scores.items()
    }
    facts: dict[str, Any] = {"runs": overall, "chosen": "." if "." in overall else None}
    if start is not None:
        kept = _kept(phases, Adaptation.read_if_present(run.path), candidate)
        facts |= {"phases": tuple(phases), "kept": kept, "headline": _headline(scores["."])}
    (start or Summary.read_if_present(run.path) or Summary()).model_copy(update=facts).write(run.path)


def _kept(phases: Sequence[PhaseSummary], adaptation: Adaptation | None, candidate: str | None) -> Kept:
    """Return the weights that a run kept, and why."""
    if not phases:
        phase, epoch, reason = None, None, "no phase was trained"
    else:
        phase, epoch, reason = phases[-1].kept_phase, phases[-1].kept_epoch, _reason(phases[-1])
    if adaptation is not None:
        candidate, reason = adaptation.chosen, adaptation.reason
    return Kept(candidate=candidate, phase=phase, epoch=epoch, reason=reason)


def _reason(last: PhaseSummary) -> str:
    """Return why the weights of one epoch were kept after the last phase."""
    if last.best is None:
        return "there are no validation images"
    if last.keep == "last":
        return "the recipe keeps the last epoch (keep: last)"
    if last.helped is None or last.earlier_best is None:
        return f"best validation ({last.monitor} {format_monitor(last.best)})"
    verb = "improved validation" if last.helped else "made validation worse"
    if last.best == last.earlier_best:
        verb = "did not improve validation"
    before = f"{format_monitor(last.earlier_best)} before"
    return f"phase {last.phase} {verb} ({last.monitor} {format_monitor(last.best)}, {before})"


def _headline(scores: Scores) -> Headline | None:
    """Return the most important score, with the most frequent error."""
    metrics = {
        name: metric
        for name, split in tables.evaluated_splits(scores).items()
        if (metric := tables.headline_of(split.overall))
    }
    if not metrics:
        return None
    name, metric = next(iter(metrics.items()))
    split = scores.splits[name]
    errors = [
        Confusion(label=label, predicted=predicted, images=count, of=sum(row))
        for label, row in zip(split.class_names, split.confusion, strict=True)
        for predicted, count in zip(split.class_names, row, strict=True)
        if predicted != label and count
    ]
    return Headline(
        split=name, metric=metric, estimate=split.overall[metric], images=split.count,
        groups=split.groups if scores.interval and scores.interval.unit == "group" else None,
        most_confused=max(errors, key=lambda error: error.images, default=None),
        few_images=split.small_classes,
    )  # fmt: skip

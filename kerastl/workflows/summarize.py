"""Summarize a run: its data, its phases, the model that it kept, and its score. Screen, page and card show this summary."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kerastl.data import CheckedImages, Record
from kerastl.data.records import natural_order, pluralize
from kerastl.evaluation import MIN_GROUPS
from kerastl.recipe import Recipe
from kerastl.report import printable, tables
from kerastl.runs import Adaptation, PhaseSummary, Run, Scores, Summary
from kerastl.runs.schemas import Confusion, DataSummary, Headline, Kept, ModelSummary, Range, SplitScores

if TYPE_CHECKING:
    import keras

SPLIT_ORDER = ("train", "val", "test", "target_train", "target_val", "target_test", "target_unlabelled")
COLOR_OPERATIONS = {"random_hue", "random_saturation", "random_color_jitter", "random_color_degeneration"}
MIN_CLASS_IMAGES = 5
"""A class with fewer test images is flagged."""
MIN_TEST_IMAGES = 50
MAX_IMBALANCE = 10
MOST = 0.5


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
    counts = Counter((record.split or "", record.label or "") for record in records)
    splits = {
        split: {name: counts[split, name] for name in names if counts[split, name]}
        for split in sorted({split for split, _ in counts}, key=SPLIT_ORDER.index)
    }
    classes = {name: sum(by_class.get(name, 0) for by_class in splits.values()) for name in names}
    grouped = {(record.split, record.domain, record.group) for record in records if record.group}
    groups = Counter(split or "" for split, _, _ in grouped)
    num_groups = {**groups, "all": len({group[1:] for group in grouped})} if groups else {}
    checks = images.checks
    data = DataSummary(
        path=path,
        images=len(records),
        classes={name: count for name, count in classes.items() if count},
        splits=splits,
        groups=num_groups,
        kinds=dict(Counter(check.kind for check in checks).most_common()),
        width_px=_range([check.width for check in checks]),
        height_px=_range([check.height for check in checks]),
        gray=sum(check.is_gray for check in checks),
        images_16_bit=sum(check.is_16_bit for check in checks),
        unreadable=len(images.quarantined),
        ignored=dict(images.collection.ignored),
    )
    return data.model_copy(update={"warnings": tuple(_warnings(data, len(checks), set(augment)))})


def _range(sizes: Sequence[int]) -> Range:
    return Range(smallest=min(sizes), median=round(statistics.median(sizes)), largest=max(sizes))


def _warnings(data: DataSummary, num_images: int, augment: set[str]) -> Iterator[str]:
    """Warn about images that are too few, unbalanced, or stored in different ways."""
    tests = [split for split in ("test", "target_test") if split in data.splits]
    for split in tests:
        yield from _test_warnings(data, split)
    train = {name: count for name, count in data.splits.get("train", {}).items() if name}
    if train and max(train.values()) >= MAX_IMBALANCE * min(train.values()):
        largest, smallest = max(train, key=train.__getitem__), min(train, key=train.__getitem__)
        yield (
            f"The classes are imbalanced: {train[largest]:,} training images of {printable(largest)}, "
            f"{train[smallest]:,} of {printable(smallest)}. To weight the classes equally, add "
            "class_weights: balanced to each phase."
        )
    changes_color = augment & COLOR_OPERATIONS
    if MOST * num_images < data.gray < num_images:
        yield (
            f"Most images are gray ({data.gray:,} of {num_images:,}). If color depends on the class, the model may use it "
            "instead of the content."
        )
    elif data.gray == num_images and changes_color:
        yield f"All images are gray, so {', '.join(sorted(changes_color))} have no effect."
    if 0 < data.images_16_bit < num_images:
        yield (
            f"The bit depth is mixed: {data.images_16_bit:,} of {num_images:,} images have 16 bits. The window "
            "applies to these only."
        )


def _test_warnings(data: DataSummary, split: str) -> Iterator[str]:
    """Warn about test images that are too few for a reliable score."""
    labeled = {name: count for name, count in data.splits[split].items() if name}
    few = [f"{printable(name)} {labeled.get(name, 0)}" for name in few_images(data.classes, labeled)]
    if labeled and few:
        yield f"Fewer than {MIN_CLASS_IMAGES} test images, so that scores are unreliable: {', '.join(few)}."
    total = sum(labeled.values())
    if 0 < total < MIN_TEST_IMAGES:
        yield f"There are only {pluralize(total, 'labeled test image')}, so the intervals of the scores will be wide."
    if 0 < data.groups.get(split, 0) < MIN_GROUPS:
        yield (
            f"There are only {data.groups[split]} test groups. Intervals need at least {MIN_GROUPS}, so the scores "
            "will have none."
        )


def few_images(names: Collection[str], counts: Mapping[str, int]) -> dict[str, int]:
    """Return the classes with too few test images for a reliable score, with their number."""
    return {name: counts.get(name, 0) for name in names if name and counts.get(name, 0) < MIN_CLASS_IMAGES}


def summarize_start(
    recipe: Recipe, model: keras.Model, head: str, data: Mapping[str, DataSummary]
) -> Summary:
    """Return what is known before training: the images and the model."""
    backbone = recipe.backbone
    of_model = ModelSummary(
        backbone=backbone.name, weights=str(backbone.weights), head=head, parameters=model.count_params()
    )
    return Summary(data=dict(data), model=of_model)


def write_summary(
    run: Run, start: Summary | None = None, phases: Sequence[PhaseSummary] = (), candidate: str | None = None
) -> Summary:
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
        adaptation = Adaptation.read_if_present(run.path)
        facts |= {
            "phases": tuple(phases),
            "kept": _kept(phases, adaptation, candidate),
            "headline": _headline(scores["."]) if "." in scores else None,
        }
    summary = (start or Summary.read_if_present(run.path) or Summary()).model_copy(update=facts)
    summary.write(run.path)
    return summary


def _kept(phases: Sequence[PhaseSummary], adaptation: Adaptation | None, candidate: str | None) -> Kept:
    """Return the weights that a run kept, and why."""
    last = phases[-1] if phases else None
    if adaptation is not None:
        candidate, reason = adaptation.chosen, adaptation.reason
    else:
        reason = _reason(phases) if phases else "no phase was trained"
    return Kept(
        candidate=candidate, reason=reason,
        phase=last.kept_phase if last else None, epoch=last.kept_epoch if last else None,
    )  # fmt: skip


def _reason(phases: Sequence[PhaseSummary]) -> str:
    """Return why the weights of one epoch were kept after the last phase."""
    last = phases[-1]
    if last.best is None or last.best_epoch is None:
        return "there are no validation images"
    if last.keep == "last":
        return "the recipe keeps the last epoch (keep: last)"
    if last.kept_epoch < last.best_epoch and last.helped is False:
        values = f"{last.monitor} {last.best:.3f}, {last.earlier_best:.3f} before"
        verb = "did not improve validation" if last.best == last.earlier_best else "made validation worse"
        return f"{last.phase} {verb} ({values})"
    if last.helped:
        return f"{last.phase} improved validation ({last.monitor} {last.earlier_best:.3f} to {last.best:.3f})"
    return f"best validation ({last.monitor} {last.best:.3f})"


def _headline(scores: Scores) -> Headline | None:
    """Return the most important score, with the most frequent error."""
    for name, split in tables.evaluated_splits(scores).items():
        metric = tables.headline_of(split.overall)
        if metric is not None:
            counts = dict(zip(split.class_names, map(sum, split.confusion), strict=True))
            has_groups = scores.interval is not None and scores.interval.unit == "group"
            return Headline(
                split=name, metric=metric, estimate=split.overall[metric], images=split.count,
                groups=split.groups if has_groups else None, most_confused=_most_confused(split),
                few_images=few_images(split.class_names, counts),
            )  # fmt: skip
    return None


def _most_confused(split: SplitScores) -> Confusion | None:
    """Return the most frequent error; the first one of equally frequent ones."""
    errors = [
        Confusion(label=label, predicted=predicted, images=count, of=sum(row))
        for label, row in zip(split.class_names, split.confusion, strict=True)
        for predicted, count in zip(split.class_names, row, strict=True)
        if predicted != label and count
    ]
    return max(errors, key=lambda error: error.images, default=None)

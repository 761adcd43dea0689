"""What quantizing costs: two files of one model asked for the run's test pictures, their scores side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from kerastl.console import track
from kerastl.evaluation.metrics import OVERALL
from kerastl.evaluation.predictions import PREDICTIONS, Predictions, picture_under, read_predictions
from kerastl.evaluation.trained_model import Trained
from kerastl.export.converted.pixels import pixels_of
from kerastl.export.probe_pictures import TEST_SPLITS

Array = np.ndarray[Any, Any]
Ask = Callable[[Array], Array]

BATCH_SIZE = 32
TOLD = ("balanced_accuracy", "auc")


def cost_of(trained: Trained, *, before: Ask, after: Ask) -> dict[str, dict[str, Any]]:
    """Return for each test split that has pictures what changed between two files of a model.

    Args:
        trained: of a run folder, whose `predictions.csv` names test pictures and labels.
        before, after: from pictures `[n, size, size, 3]` to probabilities `[n, classes]`.

    Returns:
        By split: `pictures` (that could be opened), `labels_differ` (how many of them), `largest_difference` of a
        probability, and `balanced_accuracy` and `auc`, each `{"before", "after"}`, on those with a label; None where a
        figure has no value. Empty where no test picture can be opened.
    """
    told = {}
    for split in TEST_SPLITS:
        answers = _answers(trained, split, before, after)
        if answers is not None:
            told[split] = _compared(*answers)
    return told


def _answers(
    trained: Trained, split: str, before: Ask, after: Ask
) -> tuple[Predictions, Array, Array] | None:
    """Return the rows of a split whose pictures can be opened, and both files' answers."""
    table = trained.folder / PREDICTIONS if trained.folder is not None else None
    if table is None or not table.is_file():
        return None
    of_split = read_predictions(table).of(split)
    if of_split.class_names != trained.class_names:
        return None
    rows: list[int] = []
    answers: list[tuple[Array, Array]] = []
    pictures = _pictures(trained, split, of_split.paths)
    while batch := list(islice(pictures, BATCH_SIZE)):
        rows += [row for row, _ in batch]
        images = np.stack([image for _, image in batch])
        answers.append((before(images), after(images)))
    if not rows:
        return None
    first, second = (np.concatenate(one) for one in zip(*answers, strict=True))
    return of_split.take(rows), first, second


def _pictures(trained: Trained, split: str, paths: Sequence[str]) -> Iterator[tuple[int, Array]]:
    root = trained.root_of(split)
    for row, path in enumerate(track(paths, "comparing")):
        file = picture_under(root, path)
        for image in pixels_of([file] if file is not None else [], trained):
            yield row, image


def _compared(rows: Predictions, before: Array, after: Array) -> dict[str, Any]:
    told: dict[str, Any] = {
        "pictures": len(before),
        "labels_differ": int((before.argmax(axis=1) != after.argmax(axis=1)).sum()),
        "largest_difference": float(np.abs(before - after).max()),
    }
    for metric in TOLD:
        told[metric] = {
            "before": _figure(metric, rows.labels, before),
            "after": _figure(metric, rows.labels, after),
        }
    return told


def _figure(metric: str, labels: Array, probabilities: Array) -> float | None:
    labelled = labels >= 0
    rows = probabilities[labelled].astype(np.float64)
    if not len(rows):
        return None
    value = float(OVERALL[metric](labels[labelled], rows, np.ones((1, len(rows))))[0])
    return None if np.isnan(value) else value

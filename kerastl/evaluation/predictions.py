"""What a model said of each image, and the table `predictions.csv` that holds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from kerastl.errors import RequestError, report_damage
from kerastl.runs import read_csv, write_csv

HEADER = ("path", "label", "predicted", "split", "group", "domain")
PREFIX = "prob_"
SUBGROUP = "subgroup_"
"""Begins the columns of subgroups: none of them can be taken for another column."""
UNLABELED = -1
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Predictions:
    """The answers of one model, a row an image.

    Args:
        paths: as in `split.csv`.
        labels: `[n]` int32 places in `class_names`; -1 where an image is unlabelled.
        logits: `[n, classes]` float32.
        class_names: in the order of the logits.
        splits, groups, domains: one text an image, empty where there is none.
        subgroups: name of a column, as `sex`, to one text an image, empty where it is not given.
    """

    paths: tuple[str, ...]
    labels: Array
    logits: Array
    class_names: tuple[str, ...]
    splits: tuple[str, ...]
    groups: tuple[str, ...]
    domains: tuple[str, ...]
    subgroups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def probabilities(self) -> Array:
        """`[n, classes]` float64; rows sum to 1. Softmax, made here and in the export only.

        In float32 the answers of a sure model would all be 1 and tie in the AUC from a gap of 17 logits on.
        """
        logits = self.logits.astype(np.float64)
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        return shifted / shifted.sum(axis=1, keepdims=True)

    def _with(self, probabilities: Array) -> Predictions:
        """Take probabilities as they are: a table read back scores to the same bytes."""
        self.__dict__["probabilities"] = probabilities
        return self

    def with_subgroups(self, subgroups: Mapping[str, tuple[str, ...]]) -> Predictions:
        """Return the same answers with other subgroups."""
        return replace(self, subgroups=subgroups)._with(self.probabilities)

    def take(self, rows: Sequence[int]) -> Predictions:
        """Return some of the rows, in the order given."""
        texts = (self.paths, self.splits, self.groups, self.domains)
        paths, splits, groups, domains = (tuple(text[row] for row in rows) for text in texts)
        index = np.asarray(rows, np.int64)
        taken = Predictions(
            paths, self.labels[index], self.logits[index], self.class_names, splits, groups, domains,
            {name: tuple(text[row] for row in rows) for name, text in self.subgroups.items()},
        )  # fmt: skip
        return taken._with(self.probabilities[index])

    def of(self, split: str) -> Predictions:
        """Return the rows of one split; there may be none."""
        return self.take([row for row, name in enumerate(self.splits) if name == split])


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write `predictions.csv`: path, label, predicted, split, group, domain, a probability a class, and subgroups.

    Labels are class names, empty where unlabelled. Probabilities are written with the fewest digits that
    give the same float64 back.
    """
    names = predictions.class_names
    likeliest = predictions.probabilities.argmax(axis=1).tolist()
    rows = [
        (
            predictions.paths[row],
            names[label] if label >= 0 else "",
            names[likeliest[row]],
            predictions.splits[row],
            predictions.groups[row],
            predictions.domains[row],
            *(repr(value) for value in predictions.probabilities[row].tolist()),
            *(texts[row] for texts in predictions.subgroups.values()),
        )
        for row, label in enumerate(predictions.labels.tolist())
    ]
    columns = (*(PREFIX + name for name in names), *(SUBGROUP + name for name in predictions.subgroups))
    write_csv(path, (*HEADER, *columns), rows)


def read_predictions(path: Path) -> Predictions:
    """Read a table that `write_predictions` wrote.

    Its probabilities are taken as they are; the logits are their logarithms, which differ from the
    model's by one number a row.

    Raises:
        RequestError: it is not such a table, or a cell of it makes no sense; the text says where.
    """
    rows = read_csv(path)
    columns = tuple(rows[0]) if rows else ()
    names = tuple(name.removeprefix(PREFIX) for name in columns if name.startswith(PREFIX))
    if not names or not set(HEADER) <= set(columns):
        wanted = ", ".join((*HEADER, f"{PREFIX}<class>"))
        raise RequestError(f"{path} is no table of predictions. Its columns must be {wanted}.")
    places = {"": UNLABELED, **{name: place for place, name in enumerate(names)}}
    labels = np.zeros(len(rows), np.int32)
    probabilities = np.zeros((len(rows), len(names)))
    for index, row in enumerate(rows):
        try:
            labels[index] = places[row["label"]]
            probabilities[index] = [_fraction(row[PREFIX + name]) for name in names]
        except (KeyError, ValueError, TypeError) as error:
            raise RequestError(f"{path}, row {index + 1}: {error} makes no sense here.") from error
    texts = (tuple(row[name] for row in rows) for name in ("path", "split", "group", "domain"))
    paths, splits, groups, domains = texts
    logits = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny)).astype(np.float32)
    subgroups = {
        name.removeprefix(SUBGROUP): tuple(row[name] for row in rows)
        for name in columns
        if name.startswith(SUBGROUP)
    }
    found = Predictions(paths, labels, logits, names, splits, groups, domains, subgroups)
    return found._with(probabilities)


def _fraction(cell: str) -> float:
    value = float(cell)
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"the probability {cell}")
    return value


PREDICTIONS = "predictions.csv"


@dataclass(frozen=True)
class PredictedRow:
    """One row of `predictions.csv`.

    Args:
        path: relative to the data root with `/`, or `tfds:name/split/index`.
        label: the true class; empty when unlabelled.
        predicted: the class with the largest probability.
        split: train, val or test.
        domain: where the image comes from; empty when not given.
        probabilities: by class name, in the file's order.
    """

    path: str
    label: str
    predicted: str
    split: str
    domain: str
    probabilities: dict[str, float]


def read_rows(run_folder: Path) -> list[PredictedRow]:
    """Return the rows of `predictions.csv`; none when the run has no such file."""
    file = run_folder / PREDICTIONS
    if not file.is_file():
        return []
    with report_damage(file, "Run the recipe again."):
        return [_row(row) for row in read_csv(file)]


def _row(row: dict[str, str]) -> PredictedRow:
    start = "prob_"
    return PredictedRow(
        path=row["path"],
        label=row["label"],
        predicted=row["predicted"],
        split=row["split"],
        domain=row["domain"],
        probabilities={
            name.removeprefix(start): float(cell) for name, cell in row.items() if name.startswith(start)
        },
    )


def image_under(root: Path | None, path: str) -> Path | None:
    """Return the file of a path that a table of a run names; None where there is none to open.

    A table may come from a stranger: absolute paths, `..` and links out of the folder are not followed.
    """
    parts = PurePosixPath(path)
    if root is None or path.startswith("tfds:") or parts.is_absolute() or "\\" in path:
        return None
    if ".." in parts.parts or "\0" in path:
        return None
    file = root.joinpath(*parts.parts)
    inside = file.is_file() and file.resolve().is_relative_to(root.resolve())
    return file if inside else None

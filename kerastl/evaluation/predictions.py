"""Predictions for each image, and the table `predictions.csv`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from kerastl.errors import RequestError, report_damage
from kerastl.options import checked
from kerastl.runs import read_csv, write_csv
from kerastl.tasks import SINGLE_LABEL

HEADER = ("path", "label", "predicted", "split", "group", "domain")
COPIES = "copies"
SUBGROUP = "subgroup_"
"""Prefix of subgroup columns, which distinguishes them from other columns."""
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Predictions:
    """The predictions of one model, one row per image.

    Args:
        paths: Paths as in `split.csv`.
        labels: `[n]` int32 indices into `class_names`, -1 for unlabeled images.
        logits: `[n, classes]` float32.
        class_names: Class names in the order of the logits.
        splits, groups, domains: One string per image, empty if unknown.
        subgroups: Column name, e.g. `sex`, to one string per image, empty if unknown.
        temperature: Divisor of the logits in `probabilities`, above 0. None for 1. Predictions that
            were read from a table keep the probabilities of the table.
        copies: One name per image, the same for copies of an image and for groups that share an image, which are
            resampled together. Empty for other images. `()` if there are no copies.
    """

    paths: tuple[str, ...]
    labels: Array
    logits: Array
    class_names: tuple[str, ...]
    splits: tuple[str, ...]
    groups: tuple[str, ...]
    domains: tuple[str, ...]
    subgroups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    temperature: float | None = None
    copies: tuple[str, ...] = ()

    @cached_property
    def probabilities(self) -> Array:
        """`[n, classes]` float64, scaled with the temperature."""
        return SINGLE_LABEL.probabilities(self.logits, self.temperature)

    @cached_property
    def uncalibrated(self) -> Array:
        """`[n, classes]` float64, the probabilities without the temperature."""
        return SINGLE_LABEL.probabilities(self.logits)

    def _with(self, probabilities: Array) -> Predictions:
        """Set the probabilities. A table that is read back then gives the same scores to the byte."""
        self.__dict__["probabilities"] = probabilities
        return self

    def with_subgroups(self, subgroups: Mapping[str, tuple[str, ...]]) -> Predictions:
        """Return the predictions with other subgroups."""
        return replace(self, subgroups=subgroups)._with(self.probabilities)

    def take(self, rows: Sequence[int]) -> Predictions:
        """Return the given rows, in the given order."""
        columns = (self.paths, self.splits, self.groups, self.domains)
        paths, splits, groups, domains = (tuple(column[row] for row in rows) for column in columns)
        index = np.asarray(rows, np.int64)
        taken = Predictions(
            paths, self.labels[index], self.logits[index], self.class_names, splits, groups, domains,
            {name: tuple(column[row] for row in rows) for name, column in self.subgroups.items()}, self.temperature,
            tuple(self.copies[row] for row in rows) if any(self.copies) else (),
        )  # fmt: skip
        return taken._with(self.probabilities[index])

    def binary(self, positive: int) -> tuple[Array, Array]:
        """Return whether each image is of the positive class, `[n]` bool, and the probability of that class, `[n]`."""
        return self.labels == positive, self.probabilities[:, positive]

    def of(self, *splits: str) -> Predictions:
        """Return the rows of some splits, possibly none."""
        return self.take([row for row, name in enumerate(self.splits) if name in splits])


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write `predictions.csv`: path, label, predicted, split, group, domain, probabilities, logits, and subgroups.

    If there are copies of images, a column `copies` contains their names. Labels are class names, empty if unlabeled.
    Numbers have the fewest digits that give the same value when read: float64 for a probability, float32 for a logit.
    """
    names, probabilities = predictions.class_names, predictions.probabilities
    columns: dict[str, Sequence[Any]] = {
        "path": predictions.paths,
        "label": [names[label] if label >= 0 else "" for label in predictions.labels],
        "predicted": [names[index] for index in probabilities.argmax(axis=1)],
        "split": predictions.splits,
        "group": predictions.groups,
        "domain": predictions.domains,
        **dict(zip(SINGLE_LABEL.columns(names), probabilities.T.tolist(), strict=True)),
        **dict(zip(SINGLE_LABEL.logit_columns(names), predictions.logits.T.astype(np.float32), strict=True)),
        **({COPIES: predictions.copies} if any(predictions.copies) else {}),
        **{SUBGROUP + name: values for name, values in predictions.subgroups.items()},
    }
    write_csv(path, tuple(columns), zip(*columns.values(), strict=True))


@checked
def read_predictions(path: Path) -> Predictions:
    """Read a table that `write_predictions` wrote.

    Probabilities and logits are exact.

    Raises:
        RequestError: If it is not such a table, or if a cell is invalid. The message names the row.
    """
    with report_damage(path, "Write it again with write_predictions."):
        return _from_rows(path, read_csv(path))


def _from_rows(path: Path, rows: list[dict[str, str]]) -> Predictions:
    columns = tuple(rows[0]) if rows else ()
    names = SINGLE_LABEL.class_names_of(columns)
    probability_columns = SINGLE_LABEL.columns(names)
    logit_columns = SINGLE_LABEL.logit_columns(names)
    if not names or not {*HEADER, *logit_columns} <= set(columns):
        required = ", ".join(
            (*HEADER, *SINGLE_LABEL.columns(["<class>"]), *SINGLE_LABEL.logit_columns(["<class>"]))
        )
        raise RequestError(f"{path} is not a table of predictions. Required columns: {required}.")
    indices = {"": SINGLE_LABEL.unlabeled, **{name: index for index, name in enumerate(names)}}
    labels = np.zeros(len(rows), np.int32)
    probabilities, logits = np.zeros((len(rows), len(names))), np.zeros((len(rows), len(names)), np.float32)
    for number, row in enumerate(rows):
        try:
            labels[number] = indices[row["label"]]
            probabilities[number] = [_probability(row[column]) for column in probability_columns]
            logits[number] = [_logit(row[column]) for column in logit_columns]
        except (KeyError, ValueError, TypeError) as error:
            raise RequestError(f"{path}, row {number + 1}: invalid value {error}.") from error
    values = (tuple(row[name] for row in rows) for name in ("path", "split", "group", "domain"))
    paths, splits, groups, domains = values
    subgroups = {
        name.removeprefix(SUBGROUP): tuple(row[name] for row in rows)
        for name in columns
        if name.startswith(SUBGROUP)
    }
    copies = tuple(row[COPIES] for row in rows) if COPIES in columns else ()
    predictions = Predictions(paths, labels, logits, names, splits, groups, domains, subgroups, copies=copies)
    return predictions._with(probabilities)


def _probability(cell: str) -> float:
    value = float(cell)
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{cell}, which is not a probability")
    return value


def _logit(cell: str) -> float:
    value = float(cell)
    if not np.isfinite(value):
        raise ValueError(f"{cell}, which is not a finite logit")
    return value


PREDICTIONS = "predictions.csv"


def read_run_predictions(run_folder: Path) -> Predictions | None:
    """Return the predictions of a run. None if it has no such file, or if no image was predicted."""
    file = run_folder / PREDICTIONS
    rows = read_csv(file) if file.is_file() else []
    return _from_rows(file, rows) if rows else None


def resolve_image(root: Path | None, path: str) -> Path | None:
    """Return the image file for a path in a table of a run. None if there is no such file.

    A table can come from an untrusted source: absolute paths, `..` and links out of the folder are not followed.
    """
    parts = PurePosixPath(path)
    if root is None or path.startswith("tfds:") or parts.is_absolute() or "\\" in path:
        return None
    if ".." in parts.parts or "\0" in path:
        return None
    file = root.joinpath(*parts.parts)
    is_inside = file.is_file() and file.resolve().is_relative_to(root.resolve())
    return file if is_inside else None

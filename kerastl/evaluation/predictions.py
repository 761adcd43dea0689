"""What a model said of each picture, and the table `predictions.csv` that holds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerastl.errors import RequestError
from kerastl.runs import read_csv, write_csv

HEADER = ("path", "label", "predicted", "split", "group", "domain")
PREFIX = "prob_"
UNLABELLED = -1
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Predictions:
    """The answers of one model, a row a picture.

    Args:
        paths: as in `split.csv`.
        labels: `[n]` int32 places in `class_names`; -1 where a picture is unlabelled.
        logits: `[n, classes]` float32.
        class_names: in the order of the logits.
        splits, groups, domains: one text a picture, empty where there is none.
    """

    paths: tuple[str, ...]
    labels: Array
    logits: Array
    class_names: tuple[str, ...]
    splits: tuple[str, ...]
    groups: tuple[str, ...]
    domains: tuple[str, ...]

    @property
    def probabilities(self) -> Array:
        """`[n, classes]` float32; rows sum to 1. Softmax in float64, made here and in the export only."""
        logits = self.logits.astype(np.float64)
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        return (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)

    def take(self, rows: Sequence[int]) -> Predictions:
        """Return some of the rows, in the order given."""
        texts = (self.paths, self.splits, self.groups, self.domains)
        paths, splits, groups, domains = (tuple(text[row] for row in rows) for text in texts)
        index = np.asarray(rows, np.int64)
        return Predictions(
            paths, self.labels[index], self.logits[index], self.class_names, splits, groups, domains
        )

    def of(self, split: str) -> Predictions:
        """Return the rows of one split; there may be none."""
        return self.take([row for row, name in enumerate(self.splits) if name == split])


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write `predictions.csv`: path, label, predicted, split, group, domain, and a probability a class.

    Labels are class names, empty where unlabelled. Nine digits give every float32 back exactly.
    """
    names = predictions.class_names
    probabilities = predictions.probabilities
    rows = [
        (
            predictions.paths[row],
            names[label] if label >= 0 else "",
            names[int(probabilities[row].argmax())],
            predictions.splits[row],
            predictions.groups[row],
            predictions.domains[row],
            *(f"{value:.9g}" for value in probabilities[row]),
        )
        for row, label in enumerate(predictions.labels.tolist())
    ]
    write_csv(path, (*HEADER, *(PREFIX + name for name in names)), rows)


def read_predictions(path: Path) -> Predictions:
    """Read a table that `write_predictions` wrote; logits are the logarithms of its probabilities.

    Raises:
        RequestError: it is not such a table.
    """
    rows = read_csv(path)
    names = tuple(
        name.removeprefix(PREFIX) for name in (rows[0] if rows else {}) if name.startswith(PREFIX)
    )
    if not names:
        raise RequestError(f"{path} is no table of predictions: it has no column {PREFIX}<class>.")
    places = {name: place for place, name in enumerate(names)}
    probabilities = np.array([[float(row[PREFIX + name]) for name in names] for row in rows])
    tiny = np.finfo(np.float32).tiny
    columns = (tuple(row[name] for row in rows) for name in ("path", "split", "group", "domain"))
    paths, splits, groups, domains = columns
    return Predictions(
        paths,
        np.array([places.get(row["label"], UNLABELLED) for row in rows], np.int32),
        np.log(np.maximum(probabilities, tiny)).astype(np.float32),
        names,
        splits,
        groups,
        domains,
    )

"""Find the pictures of a finished run again, through its `predictions.csv`. No TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kerastl.errors import naming_damage
from kerastl.runs import read_csv

PREDICTIONS = "predictions.csv"


@dataclass(frozen=True)
class PredictedRow:
    """One row of `predictions.csv`.

    Args:
        path: relative to the data root with `/`, or `tfds:name/split/index`.
        label: the true class; empty when unlabelled.
        predicted: the class with the largest probability.
        split: train, val or test.
        domain: where the picture comes from; empty when not given.
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
    with naming_damage(file, "Run the recipe again."):
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
            name.removeprefix(start): float(cell)
            for name, cell in row.items()
            if name.startswith(start)
        },
    )


def picture_under(root: Path | None, path: str) -> Path | None:
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

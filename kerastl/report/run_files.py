"""Read the files of a run folder for the page; what is missing is empty, what is damaged is named."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerastl.errors import RequestError
from kerastl.evaluation.predictions import PredictedRow, read_rows
from kerastl.evaluation.trained_model import DESCRIPTION, Description, read_description
from kerastl.runs import BEGUN, read_csv

SCORES = "scores.json"


@dataclass(frozen=True)
class RunFiles:
    """What the files of a run folder say; `{}`, `()` or None where there is no such file.

    Args:
        folder: the run folder.
        scores, freeze, versions, adaptation: the JSON files.
        history: one row an epoch.
        notes: one line each.
        predictions: one row a picture.
        splits, quarantine: rows of the CSV files.
        recipe: text of the resolved recipe.
        description: what `model.json` says.
    """

    folder: Path
    scores: dict[str, Any]
    freeze: dict[str, Any]
    versions: dict[str, Any]
    adaptation: dict[str, Any]
    history: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]
    predictions: tuple[PredictedRow, ...]
    splits: tuple[dict[str, str], ...]
    quarantine: tuple[dict[str, str], ...]
    recipe: str
    description: Description | None


def read_run_files(folder: Path) -> RunFiles:
    """Read a run folder.

    Raises:
        RequestError: not a run folder, or one of its files is damaged.
    """
    if not (folder / SCORES).is_file() and not (folder / BEGUN).is_file():
        raise RequestError(f"{folder} is not a run folder: it holds neither {SCORES} nor {BEGUN}.")
    return RunFiles(
        folder=folder,
        scores=_json(folder / SCORES, {}),
        freeze=_json(folder / "freeze.json", {}),
        versions=_json(folder / "versions.json", {}),
        adaptation=_json(folder / "adaptation.json", {}),
        history=_lines(folder / "history.jsonl"),
        # Two readers may say the same; once is enough for a reader of the page.
        notes=tuple(dict.fromkeys(str(note) for note in _json(folder / "notes.json", []))),
        predictions=_predictions(folder),
        splits=_table(folder / "split.csv"),
        quarantine=_table(folder / "quarantine.csv"),
        recipe=_text(folder / BEGUN),
        description=read_description(folder) if (folder / DESCRIPTION).is_file() else None,
    )


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""


def _json(file: Path, missing: Any) -> Any:
    if not file.is_file():
        return missing
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(file, error) from error
    if type(content) is not type(missing):
        raise _damaged(file, "it holds another kind of value than a run writes")
    return content


def _lines(file: Path) -> tuple[dict[str, Any], ...]:
    try:
        rows = [json.loads(line) for line in _text(file).splitlines() if line.strip()]
    except ValueError as error:
        raise _damaged(file, error) from error
    return tuple(row for row in rows if isinstance(row, dict))


def _table(file: Path) -> tuple[dict[str, str], ...]:
    return tuple(read_csv(file)) if file.is_file() else ()


def _predictions(folder: Path) -> tuple[PredictedRow, ...]:
    try:
        return tuple(read_rows(folder))
    except (KeyError, ValueError) as error:
        raise _damaged(folder / "predictions.csv", error) from error


def _damaged(file: Path, why: object) -> RequestError:
    return RequestError(f"{file} is damaged: {why}.")

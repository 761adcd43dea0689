"""The report of a run: a single HTML file made from the files of the run folder."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerastl.errors import RequestError
from kerastl.evaluation.predictions import PredictedRow, read_predicted_rows, resolve_image
from kerastl.evaluation.trained_model import DESCRIPTION, ModelDescription, read_description
from kerastl.report.figures import curve_charts, escape_invisible, style_sheet_url, thumbnail
from kerastl.report.tables import (
    cached_lines,
    check_rows,
    clinical_section,
    confusion_rows,
    evaluated_splits,
    frozen_table,
    headline_of,
    metric_cell,
    metric_table,
    metric_title,
    parameter_table,
    prevalence_section,
    rounded_lines,
    site_section,
    subgroup_tables,
)
from kerastl.runs import RESOLVED_RECIPE, read_csv, write_atomic

SCORES = "scores.json"


@dataclass(frozen=True)
class RunFiles:
    """Content of the files of a run folder; `{}`, `()` or None for missing files.

    Args:
        folder: The run folder.
        scores, freeze, versions, adaptation: Content of the JSON files.
        history: One row per epoch.
        notes: One line each.
        predictions: One row per image.
        splits, quarantine: Rows of the CSV files.
        recipe: Text of the resolved recipe.
        description: Content of `model.json`.
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
    description: ModelDescription | None


def read_run_files(folder: Path) -> RunFiles:
    """Read the files of a run folder.

    Raises:
        RequestError: It is not a run folder, or one of its files is damaged.
    """
    if not (folder / SCORES).is_file() and not (folder / RESOLVED_RECIPE).is_file():
        raise RequestError(
            f"{folder} is not a run folder: it contains neither {SCORES} nor {RESOLVED_RECIPE}."
        )
    return RunFiles(
        folder=folder,
        scores=_json(folder / SCORES, {}),
        freeze=_json(folder / "freeze.json", {}),
        versions=_json(folder / "versions.json", {}),
        adaptation=_json(folder / "adaptation.json", {}),
        history=_lines(folder / "history.jsonl"),
        # Two readers may give the same note.
        notes=tuple(dict.fromkeys(str(note) for note in _json(folder / "notes.json", []))),
        predictions=_predictions(folder),
        splits=_table(folder / "split.csv"),
        quarantine=_table(folder / "quarantine.csv"),
        recipe=_text(folder / RESOLVED_RECIPE),
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
        raise _damaged(file, "it has an unexpected content")
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
        return tuple(read_predicted_rows(folder))
    except (KeyError, ValueError) as error:
        raise _damaged(folder / "predictions.csv", error) from error


def _damaged(file: Path, why: object) -> RequestError:
    return RequestError(f"{file} is damaged: {why}.")


PAGE = "report.html"
TEST_SPLITS = ("target_test", "test")
MAX_ERRORS = 12
MAX_CONFUSION_CLASSES = 30
"""Number of classes above which the confusion matrix is omitted."""
MAX_QUARANTINED = 50


def write_report(run_folder: Path) -> Path:
    """Write the report of a run. Missing files are omitted from the page.

    Args:
        run_folder: A run folder.

    Returns:
        Path of `report.html` in the run folder. The page contains paths and images of the data.

    Raises:
        RequestError: It is not a run folder, or one of its files is damaged.
    """
    target = run_folder / PAGE
    write_atomic(target, render(read_run_files(run_folder)))
    return target


def render(files: RunFiles) -> str:
    """Return the page as HTML; all names are escaped."""
    phases, layers = frozen_table(files.freeze)
    page: str = (
        environment()
        .get_template("report.html")
        .render(
            name=files.folder.resolve().name,
            splits=[_split(files, name) for name in evaluated_splits(files.scores)],
            overall=metric_table(_overall(files)),
            interval=files.scores.get("interval") or {},
            adaptation=_adaptation(files.adaptation),
            sites=site_section(files.scores),
            prevalence=prevalence_section(files.scores, files.adaptation),
            style_sheet=style_sheet_url(files.folder),
            charts=curve_charts(files.history),
            errors=_confident_errors(files),
            phases=phases,
            layers=layers,
            cached=[*cached_lines(files.freeze), *rounded_lines(files.freeze)],
            checks=check_rows(files.freeze),
            parameters=parameter_table(files.freeze),
            data=_data_table(files),
            quarantine=files.quarantine[:MAX_QUARANTINED],
            quarantined=len(files.quarantine),
            notes=files.notes,
            recipe=files.recipe,
            versions=_versions(files.versions),
        )
    )
    return page


def environment() -> Any:
    """Return the template environment, which escapes HTML and invisible characters."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        finalize=escape_invisible,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _overall(files: RunFiles) -> dict[str, Any]:
    return {name: files.scores[name]["overall"] for name in evaluated_splits(files.scores)}


def _split(files: RunFiles, name: str) -> dict[str, Any]:
    scored = files.scores[name]
    # Details of validation images, which selected the model, are shown only without test images.
    has_test = any(split in TEST_SPLITS for split in evaluated_splits(files.scores))
    confusion = confusion_rows(scored)
    return {
        "name": name,
        "headline": headline_of(scored["overall"]),
        "count": scored.get("count"),
        "detailed": name in TEST_SPLITS or not has_test,
        "confusion": confusion if len(confusion) <= MAX_CONFUSION_CLASSES else [],
        "classes": metric_table(scored.get("classes") or {}),
        "domains": metric_table(scored.get("domains") or {}),
        "clinical": clinical_section(scored),
        "subgroups": subgroup_tables(scored),
    }


def _adaptation(content: dict[str, Any]) -> dict[str, Any] | None:
    if not content:
        return None
    target_test = content.get("target_test") or {}
    is_adapted = content.get("chosen") != "source_only"
    difference = (target_test.get("difference") or {}) if is_adapted else {}
    models = {
        "before adaptation": target_test.get("source_only"),
        "after adaptation": target_test.get("chosen"),
    }
    oracle = {name.replace("_", " "): metrics for name, metrics in (content.get("oracle") or {}).items()}
    candidates: dict[str, Any] = content.get("candidates") or {}
    ranking: dict[str, Any] = content.get("ranking") or {}
    first: dict[str, Any] = next(iter(candidates.values()), {})
    validators = list(first.get("validators") or {})
    return {
        "verdict": str(content.get("verdict") or "").replace("_", " ") if validators else "",
        "validators": [validator.replace("_", " ") for validator in validators],
        "candidates": [
            (
                name.replace("_", " "),
                name == content.get("chosen"),
                [_validator_cell((candidate.get("validators") or {}).get(key)) for key in validators],
            )
            for name, candidate in candidates.items()
        ],
        "excluded": [
            (name.replace("_", " "), str(reason))
            for reasons in (content.get("diverged"), ranking.get("rejected"))
            for name, reason in (reasons or {}).items()
        ],
        "oracle": metric_table(oracle) if oracle else None,
        "chosen": str(content.get("chosen") or "none").replace("_", " "),
        "reason": str(content.get("reason") or ""),
        "outcome": str(difference.get("outcome") or "").replace("_", " "),
        "metric": metric_title(str(difference.get("metric") or "score")),
        "difference": metric_cell({"difference": difference}, "difference") if difference else None,
        "table": metric_table(models),
    }


def _validator_cell(value: float | None) -> str:
    return "unavailable" if value is None else f"{value:.3f}"


@dataclass(frozen=True)
class ConfidentError:
    """A wrong prediction with a high probability.

    Args:
        row: Row of `predictions.csv`.
        percent: Probability of the predicted class, 0 to 100.
        image: Data URL, or None if the image cannot be shown.
    """

    row: PredictedRow
    percent: float
    image: str | None


def _confident_errors(files: RunFiles) -> list[ConfidentError]:
    split = next(iter(evaluated_splits(files.scores)), "test")
    wrong = [
        row for row in files.predictions if row.split == split and row.label and row.label != row.predicted
    ]
    wrong.sort(key=lambda row: (-row.probabilities.get(row.predicted, 0.0), row.path))
    return [
        ConfidentError(row, round(100 * row.probabilities.get(row.predicted, 0.0), 1), _image(files, row))
        for row in wrong[:MAX_ERRORS]
    ]


def _image(files: RunFiles, row: PredictedRow) -> str | None:
    described = files.description
    if described is None:
        return None
    file = resolve_image(described.root_of(row.split), row.path)
    if file is None:
        return None
    return thumbnail(file, window=described.window, max_pixels=described.max_pixels)


def _data_table(files: RunFiles) -> dict[str, Any]:
    """Return the number of images per split and class, and of groups per split."""
    counts = Counter((row["split"], row["label"] or "unlabeled") for row in files.splits)
    groups: dict[str, set[tuple[str, str]]] = {}
    for row in files.splits:
        if row["group"]:
            groups.setdefault(row["split"], set()).add((row["domain"], row["group"]))
    splits = sorted({row["split"] for row in files.splits}, key=_split_order)
    known = files.description.class_names if files.description else ()
    labels = sorted(
        {label for _, label in counts},
        key=lambda label: (known.index(label) if label in known else len(known), label),
    )
    rows = [
        (split, [counts[split, label] for label in labels], len(groups.get(split, ()))) for split in splits
    ]
    return {"labels": labels, "rows": rows}


def _split_order(name: str) -> tuple[bool, int, str]:
    order = ("train", "val", "test")
    plain = name.removeprefix("target_")
    return plain != name, order.index(plain) if plain in order else len(order), plain


def _versions(content: dict[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Return nested values as (path.to.key, text) pairs in the order of the file."""
    rows: list[tuple[str, str]] = []
    for key, value in content.items():
        name = f"{before}{key}"
        if isinstance(value, dict):
            rows += _versions(value, f"{name}.")
        elif isinstance(value, list):
            rows.append((name, ", ".join(map(str, value)) or "none"))
        else:
            rows.append((name, "none" if value is None else str(value)))
    return rows

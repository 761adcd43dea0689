"""Write `report.html`: one file that loads nothing, made from the files of a run folder alone."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerastl.errors import RequestError
from kerastl.evaluation.predictions import PredictedRow, resolve_image, read_predicted_rows
from kerastl.evaluation.trained_model import DESCRIPTION, ModelDescription, read_description
from kerastl.report.figures import curve_charts, style_sheet_url, thumbnail, visible
from kerastl.report.tables import (
    cached_lines,
    confusion_rows,
    figure_of,
    frozen_table,
    headline_of,
    hospital_of,
    judged_splits,
    parameter_table,
    prevalence_of,
    proof_rows,
    rounded_lines,
    sites_of,
    subgroups_of,
    table_of,
    words_of,
)
from kerastl.runs import RESOLVED_RECIPE, read_csv, write_atomic

SCORES = "scores.json"


@dataclass(frozen=True)
class RunFiles:
    """What the files of a run folder say; `{}`, `()` or None where there is no such file.

    Args:
        folder: the run folder.
        scores, freeze, versions, adaptation: the JSON files.
        history: one row an epoch.
        notes: one line each.
        predictions: one row an image.
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
    description: ModelDescription | None


def read_run_files(folder: Path) -> RunFiles:
    """Read a run folder.

    Raises:
        RequestError: not a run folder, or one of its files is damaged.
    """
    if not (folder / SCORES).is_file() and not (folder / RESOLVED_RECIPE).is_file():
        raise RequestError(f"{folder} is not a run folder: it holds neither {SCORES} nor {RESOLVED_RECIPE}.")
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
        return tuple(read_predicted_rows(folder))
    except (KeyError, ValueError) as error:
        raise _damaged(folder / "predictions.csv", error) from error


def _damaged(file: Path, why: object) -> RequestError:
    return RequestError(f"{file} is damaged: {why}.")


PAGE = "report.html"
TEST_SPLITS = ("target_test", "test")
MOST_ERRORS = 12
MOST_CONFUSED = 30
"""Classes above which the confusion matrix is left out: nobody reads 900 cells."""
MOST_QUARANTINED = 50


def write_report(run_folder: Path) -> Path:
    """Write the page of a run; an earlier one is replaced.

    Args:
        run_folder: what is missing in it is missing on the page.

    Returns:
        `report.html` in the run folder. It holds paths and images of the data.

    Raises:
        RequestError: not a run folder, or one of its files is damaged.
    """
    target = run_folder / PAGE
    write_atomic(target, render(read_run_files(run_folder)))
    return target


def render(files: RunFiles) -> str:
    """Return the page as HTML; every name in it is escaped."""
    phases, layers = frozen_table(files.freeze)
    page: str = (
        environment()
        .get_template("report.html")
        .render(
            name=files.folder.resolve().name,
            splits=[_split(files, name) for name in judged_splits(files.scores)],
            overall=table_of(_overall(files)),
            interval=files.scores.get("interval") or {},
            adaptation=_adaptation(files.adaptation),
            sites=sites_of(files.scores),
            prevalence=prevalence_of(files.scores, files.adaptation),
            style_sheet=style_sheet_url(files.folder),
            charts=curve_charts(files.history),
            errors=_surest_errors(files),
            phases=phases,
            layers=layers,
            cached=[*cached_lines(files.freeze), *rounded_lines(files.freeze)],
            proofs=proof_rows(files.freeze),
            parameters=parameter_table(files.freeze),
            data=_data_table(files),
            quarantine=files.quarantine[:MOST_QUARANTINED],
            quarantined=len(files.quarantine),
            notes=files.notes,
            recipe=files.recipe,
            versions=_versions(files.versions),
        )
    )
    return page


def environment() -> Any:
    """Return what fills the templates of this room: everything that is filled in is visible and escaped."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        finalize=visible,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _overall(files: RunFiles) -> dict[str, Any]:
    return {name: files.scores[name]["overall"] for name in judged_splits(files.scores)}


def _split(files: RunFiles, name: str) -> dict[str, Any]:
    scored = files.scores[name]
    judged = judged_splits(files.scores)
    # Validation images chose the model: their details would only distract where there are test images.
    has_test = any(one in TEST_SPLITS for one in judged)
    confusion = confusion_rows(scored)
    return {
        "name": name,
        "headline": headline_of(scored["overall"]),
        "count": scored.get("count"),
        "detailed": name in TEST_SPLITS or not has_test,
        "confusion": confusion if len(confusion) <= MOST_CONFUSED else [],
        "classes": table_of(scored.get("classes") or {}),
        "domains": table_of(scored.get("domains") or {}),
        "hospital": hospital_of(scored),
        "subgroups": subgroups_of(scored),
    }


def _adaptation(content: dict[str, Any]) -> dict[str, Any] | None:
    if not content:
        return None
    judged = content.get("target_test") or {}
    # A model that was not adapted differs from itself by nothing.
    adapted = content.get("chosen") != "source_only"
    difference = (judged.get("difference") or {}) if adapted else {}
    models = {"before adaptation": judged.get("source_only"), "after adaptation": judged.get("chosen")}
    oracle = {name.replace("_", " "): told for name, told in (content.get("oracle") or {}).items()}
    candidates: dict[str, Any] = content.get("candidates") or {}
    ranking: dict[str, Any] = content.get("ranking") or {}
    first: dict[str, Any] = next(iter(candidates.values()), {})
    validators = list(first.get("validators") or {})
    return {
        "verdict": str(content.get("verdict") or "").replace("_", " ") if validators else "",
        "validators": [one.replace("_", " ") for one in validators],
        "candidates": [
            (
                name.replace("_", " "),
                name == content.get("chosen"),
                [_short((told.get("validators") or {}).get(one)) for one in validators],
            )
            for name, told in candidates.items()
        ],
        "left_out": [
            (name.replace("_", " "), str(why))
            for reasons in (content.get("diverged"), ranking.get("rejected"))
            for name, why in (reasons or {}).items()
        ],
        "oracle": table_of(oracle) if oracle else None,
        "chosen": str(content.get("chosen") or "none").replace("_", " "),
        "reason": str(content.get("reason") or ""),
        "outcome": str(difference.get("outcome") or "").replace("_", " "),
        "metric": words_of(str(difference.get("metric") or "score")),
        "difference": figure_of({"difference": difference}, "difference") if difference else None,
        "table": table_of(models),
    }


def _short(value: float | None) -> str:
    return "cannot be told" if value is None else f"{value:.3f}"


@dataclass(frozen=True)
class SureError:
    """A wrong answer that the model was sure of.

    Args:
        row: its row of `predictions.csv`.
        percent: probability of the predicted class, 0 to 100.
        image: a data: URL; None where the image cannot be shown.
    """

    row: PredictedRow
    percent: float
    image: str | None


def _surest_errors(files: RunFiles) -> list[SureError]:
    split = next(iter(judged_splits(files.scores)), "test")
    wrong = [
        (-row.probabilities.get(row.predicted, 0.0), row.path, row)
        for row in files.predictions
        if row.split == split and row.label and row.label != row.predicted
    ]
    wrong.sort(key=lambda one: one[:2])
    return [
        SureError(row, round(-100 * minus, 1), _image(files, row)) for minus, _, row in wrong[:MOST_ERRORS]
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
    """Return how many images and groups of each class each split holds."""
    counts = Counter((row["split"], row["label"] or "unlabelled") for row in files.splits)
    groups: dict[str, set[tuple[str, str]]] = {}
    for row in files.splits:
        if row["group"]:
            groups.setdefault(row["split"], set()).add((row["domain"], row["group"]))
    splits = sorted({row["split"] for row in files.splits}, key=_place_of_split)
    known = files.description.class_names if files.description else ()
    labels = sorted(
        {label for _, label in counts},
        key=lambda label: (known.index(label) if label in known else len(known), label),
    )
    rows = [
        (split, [counts[split, label] for label in labels], len(groups.get(split, ()))) for split in splits
    ]
    return {"labels": labels, "rows": rows}


def _place_of_split(name: str) -> tuple[bool, int, str]:
    order = ("train", "val", "test")
    plain = name.removeprefix("target_")
    return plain != name, order.index(plain) if plain in order else len(order), plain


def _versions(content: dict[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Return nested values as `(path.to.key, text)`, in the file's order."""
    rows: list[tuple[str, str]] = []
    for key, value in content.items():
        name = f"{before}{key}"
        if isinstance(value, dict):
            rows += _versions(value, f"{name}.")
        elif isinstance(value, list):
            rows.append((name, ", ".join(str(one) for one in value) or "none"))
        else:
            rows.append((name, "none" if value is None else str(value)))
    return rows

"""The report of a run: a single HTML file made from the files of the run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from kerastl.console import print_status
from kerastl.errors import RequestError, report_damage
from kerastl.evaluation.predictions import PREDICTIONS, read_run_predictions, resolve_image
from kerastl.evaluation.subgroups import sort_values
from kerastl.report import tables
from kerastl.report.facts import summary_facts
from kerastl.report.figures import curve_charts, style_sheet_url, thumbnail, write_page
from kerastl.runs import (
    RESOLVED_RECIPE,
    Adaptation,
    DataSummary,
    Freeze,
    ModelDescription,
    Run,
    Scores,
    Summary,
    read_csv,
)
from kerastl.runs.schemas import RUN_AGAIN

PAGE = "report.html"
EXPECTED = (
    PREDICTIONS, "history.jsonl", "freeze.json", "split.csv", Summary.FILE, ModelDescription.FILE, "versions.json",
)  # fmt: skip
"""Files of every run that was evaluated."""
MAX_ERRORS = 12
MAX_CONFUSION_CLASSES = 30
"""Number of classes above which the confusion matrix is omitted."""
MAX_QUARANTINED = 50
MAX_SITE_IMAGES = 6
COUNTS = {"support", "images", "groups"}
"""Metrics that are numbers of images or groups."""
UNBOUNDED = {"log_loss", *COUNTS}
"""Metrics that are not from 0 to 1 and have no bar."""


def write_report(run_folder: Path) -> Path:
    """Write the report of a run. Missing files are omitted from the page.

    Args:
        run_folder: A run folder.

    Returns:
        Path of `report.html` in the run folder. The page contains paths and images of the data.

    Raises:
        RequestError: It is not a run folder, or one of its files is damaged.
    """
    if not run_folder.exists():
        raise RequestError(f"Run folder not found: {run_folder}. Specify an existing run folder.")
    scores = Scores.read_if_present(run_folder)
    if scores is None and not (run_folder / RESOLVED_RECIPE).is_file():
        raise RequestError(
            f"{run_folder} is not a run folder: it contains neither {Scores.FILE} nor {RESOLVED_RECIPE}."
        )
    scores = scores or Scores()
    adaptation = Adaptation.read_if_present(run_folder)
    freeze = Freeze.read_if_present(run_folder) or Freeze(phases=())
    model = ModelDescription.read_if_present(run_folder)
    summary = Summary.read_if_present(run_folder) or Summary()
    quarantine = _table(run_folder / "quarantine.csv")
    splits = tables.evaluated_splits(scores)
    # Details of validation images, which selected the model, are shown only without test images.
    detailed = {name: split for name, split in splits.items() if name in scores.test_splits} or splits
    errors_of = next(iter(splits), "test")
    errors = _confident_errors(run_folder, errors_of, model)
    lacks = _lacks(run_folder, model, errors_of if errors is None else None, is_evaluated=bool(splits))
    phases, layers = tables.frozen_table(freeze)
    rejected = adaptation.ranking.rejected if adaptation and adaptation.ranking else {}
    return write_page(
        run_folder / PAGE,
        "report.html",
        tables=tables,
        sort_values=sort_values,
        name=run_folder.resolve().name,
        scores=scores,
        splits=splits,
        detailed=detailed,
        max_confusion_classes=MAX_CONFUSION_CLASSES,
        unbounded=UNBOUNDED,
        counts=COUNTS,
        overall={name: split.overall for name, split in splits.items()},
        intervals=scores.interval,
        adaptation=adaptation,
        excluded=[*adaptation.diverged.items(), *rejected.items()] if adaptation else [],
        style_sheet=style_sheet_url(run_folder),
        charts=curve_charts(_lines(run_folder / "history.jsonl")),
        errors=errors,
        errors_of=errors_of,
        phases=phases,
        layers=layers,
        cached=[*tables.cached_lines(freeze.phases), *tables.rounded_lines(freeze.phases)],
        checks=tables.check_rows(freeze),
        parameters=tables.parameter_table(freeze),
        facts=summary_facts(summary, "result", "data", "model", adaptation=adaptation, phases=summary.phases),
        site_images=_site_images(_table(run_folder / "split.csv"), model),
        data=_data_table(summary.data, model.class_names if model else ()),
        quarantine=quarantine[:MAX_QUARANTINED],
        quarantined=len(quarantine),
        # Two readers may give the same note.
        notes=list(dict.fromkeys([*lacks, *map(str, _json(run_folder / "notes.json", []))])),
        recipe=_text(run_folder / RESOLVED_RECIPE),
        versions=_versions(_json(run_folder / "versions.json", {})),
        model=model,
    )


def _lacks(
    run_folder: Path, model: ModelDescription | None, without_rows: str | None, *, is_evaluated: bool
) -> list[str]:
    """Return what a run lacks, as notes, and warn about missing files.

    Args:
        run_folder: The run folder.
        model: Its model; None if the run is not finished.
        without_rows: The split that has no predictions; None if it has some.
        is_evaluated: Whether the run has scores, and so should have all files.
    """
    notes = []
    missing = [name for name in EXPECTED if is_evaluated and not (run_folder / name).is_file()]
    if is_evaluated and without_rows and PREDICTIONS not in missing:
        missing.append(f"rows of {without_rows} in {PREDICTIONS}")
    if missing:
        notes.append(f"The report is incomplete. Missing in the run folder: {', '.join(missing)}.")
        print_status(f"Warning: {notes[0]}")
    if model is None and (run_folder / RESOLVED_RECIPE).is_file():
        notes.append(f"This run is not finished. To finish it: {Run(run_folder).resume_command}")
    return notes


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""


def _json(file: Path, missing: Any) -> Any:
    with report_damage(file, RUN_AGAIN):
        content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else missing
        if type(content) is not type(missing):
            raise ValueError("its content has an unexpected type")
    return content


def _lines(file: Path) -> list[dict[str, Any]]:
    with report_damage(file, RUN_AGAIN):
        rows = [json.loads(line) for line in _text(file).splitlines() if line.strip()]
    return [row for row in rows if isinstance(row, dict)]


def _table(file: Path) -> tuple[dict[str, str], ...]:
    with report_damage(file, RUN_AGAIN):
        return tuple(read_csv(file)) if file.is_file() else ()


def _confident_errors(
    run_folder: Path, split: str, model: ModelDescription | None
) -> list[dict[str, Any]] | None:
    """Return the wrong predictions with the highest probabilities, with images if these can be shown.

    None if there are no predictions.
    """
    with report_damage(run_folder / PREDICTIONS, RUN_AGAIN):
        predictions = read_run_predictions(run_folder)
    predictions = predictions and predictions.of(split)
    if predictions is None or not predictions.paths:
        return None
    names, probabilities = predictions.class_names, predictions.probabilities.max(axis=1)
    predicted = predictions.probabilities.argmax(axis=1)
    wrong = np.flatnonzero((predictions.labels >= 0) & (predictions.labels != predicted))
    order = sorted(wrong.tolist(), key=lambda row: (-probabilities[row], predictions.paths[row]))
    return [
        {
            "path": predictions.paths[row],
            "label": names[predictions.labels[row]],
            "predicted": names[predicted[row]],
            "percent": round(100 * float(probabilities[row]), 1),
            "domain": predictions.domains[row],
            "image": _image(model, split, predictions.paths[row]),
        }
        for row in order[:MAX_ERRORS]
    ]


def _image(model: ModelDescription | None, split: str, path: str) -> str | None:
    if model is None:
        return None
    file = resolve_image(model.root_of(split), path)
    return None if file is None else thumbnail(file, window=model.window, max_pixels=model.max_pixels)


def _site_images(
    rows: Sequence[dict[str, str]], model: ModelDescription | None
) -> dict[str, list[dict[str, Any]]]:
    """Return images of source and target by site, of each class in turn; empty without images of both.

    Args:
        rows: The rows of `split.csv`.
        model: The description of the model, with the folders of the images.
    """
    sites: dict[str, list[dict[str, Any]]] = {}
    for site in ("source", "target"):
        of_site = [row for row in rows if row["split"].startswith("target") == (site == "target")]
        # One image per group, because the images of a group are similar.
        by_class = [
            list({row["group"] or row["path"]: row for row in of_site if row["label"] == label}.values())
            for label in sorted({row["label"] for row in of_site})
        ]
        in_turn = [row for same_rank in zip_longest(*by_class) for row in same_rank if row]
        images = [
            {"label": row["label"], "image": _image(model, row["split"], row["path"])}
            for row in in_turn[:MAX_SITE_IMAGES]
        ]
        domains = {row["domain"] for row in of_site} - {site}
        title = f"{site}: {domains.pop()}" if len(domains) == 1 else site
        sites[title] = [entry for entry in images if entry["image"]]
    return sites if all(sites.values()) else {}


def _data_table(data: Mapping[str, DataSummary], class_names: Sequence[str]) -> dict[str, Any]:
    """Return the number of images per split and class, and of groups per split."""
    present = {label for images in data.values() for label in images.classes}
    labels = [name for name in class_names if name in present] + sorted(present - set(class_names))
    is_withheld = any(images.withheld for images in data.values())
    return {
        "labels": [name or ("no label used" if is_withheld else "unlabeled") for name in labels],
        "rows": [
            (split, [counts.get(name, 0) for name in labels], images.groups.get(split, 0))
            for images in data.values()
            for split, counts in images.ordered_splits.items()
        ],
    }


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

"""Tiny runs of the shipped recipes, and what of a run folder must not change.

Everything is generated: images of noise, and phantom hospitals. The runs call the command line in this process.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from command_line import call
from PIL import Image

SMALL = (
    "data.image_size_px=32",
    "data.batch_size=16",
    "backbone={name: small_cnn, weights: none}",
    "evaluation.resamples=100",
    "phases[0].trainable=all",
)
"""Random weights cannot be frozen, so the first phase trains the whole network."""

SETTINGS: dict[str, tuple[str, ...]] = {
    "feature-extraction": (
        *SMALL, "data.reader.path=images", "phases[0].epochs=2", "export.formats=[]",
    ),
    "folder-classifier": (
        *SMALL, "data.reader.path=images", "phases[0].epochs=1", "phases[1].epochs=2",
    ),
    "quickstart": (
        *SMALL, "data.reader.patients=40", "data.reader.slices_per_patient=1",
        "data.reader.image_size_px=32", "target.reader.patients=30",
        "target.reader.slices_per_patient=1", "target.reader.image_size_px=32",
        "phases[0].epochs=2", "phases[1].epochs=1", "export.formats=[]",
    ),
    "hospital-adaptation": (
        *SMALL, "data.reader.path=a/labels.csv", "target.reader.path=b/labels.csv", "augment=none",
        "phases[0].epochs=1", "phases[1].epochs=1", "phases[2].epochs=1", "export.formats=[]",
    ),
    "hospital-unlabelled": (
        *SMALL, "data.reader.path=a/labels.csv", "target.reader.path=b/labels.csv", "augment=none",
        "phases[0].epochs=1", "phases[1].epochs=2", "phases[2].epochs=1",
        "adaptation.methods=[adabn, dann]", "export.formats=[keras]",
    ),
    "hospital-source-free": (
        "source.model=runs/hospital-unlabelled/export/keras/1", "target.reader.path=b/labels.csv",
        "data.batch_size=16", "augment=none", "phases[0].epochs=1",
        "adaptation.methods=[adabn, shot]", "evaluation.resamples=100", "export.formats=[]",
    ),
    "scanner-style": (
        *SMALL, "data.reader.path=a/labels.csv", "target.reader.path=b/labels.csv", "augment=none",
        "phases[0].epochs=1", "phases[1].epochs=1", "phases[2].epochs=1",
        "adaptation.methods=[histogram_matching, reinhard]", "export.formats=[]",
    ),
}  # fmt: skip
"""The settings that make a shipped recipe tiny. `tfds-classifier` is not here: it needs a prepared TFDS dataset."""

NEEDS = {"hospital-source-free": "hospital-unlabelled"}
"""The run that must be finished first."""

USER_NAMED = {
    *("dark", "light", "benign", "malignant"),
    *("a", "b"),
    *("train", "val", "test"),
    *("target_train", "target_val", "target_test", "target_unlabelled"),
    *("head", "fine_tune", "source", "adapt"),
    *("adabn", "dann", "shot", "histogram_matching", "reinhard", "source_only"),
}
"""Names that a recipe or its data brings: classes, domains, splits, phases and candidates."""


def run_recipe(recipe: str, folder: Path) -> Path:
    """Run a shipped recipe once, after the run that it needs, and return its run folder.

    Args:
        recipe: name of the recipe.
        folder: the working directory, shared by all runs: it holds the data, and the runs under `runs`.
    """
    run = folder / "runs" / recipe
    if run.exists():
        return run
    if recipe in NEEDS:
        run_recipe(NEEDS[recipe], folder)
    _write_data(recipe, folder)
    sets = [word for setting in SETTINGS[recipe] for word in ("--set", setting)]
    answer = call("run", recipe, "--out", f"runs/{recipe}", *sets, folder=folder)
    assert answer.code == 0, answer.err
    return run


def _write_data(recipe: str, folder: Path) -> None:
    """Write the images or the phantom hospitals that a recipe reads, if they are not there yet."""
    settings = " ".join(SETTINGS[recipe])
    if "path=images" in settings and not (folder / "images").exists():
        _draw_images(folder / "images")
    for hospital, patients in (("a", 60), ("b", 40)):
        if f"path={hospital}/labels.csv" in settings and not (folder / hospital).exists():
            words = ("data", "phantom", hospital, "--hospital", hospital, "--patients", patients)
            answer = call(*words, "--slices", 1, "--image-size-px", 32, folder=folder)
            assert answer.code == 0, answer.err


def _draw_images(folder: Path) -> None:
    """Write noise of two classes: the upper half of class `light` is brighter."""
    for seed, label in enumerate(("dark", "light"), 1):
        (folder / label).mkdir(parents=True)
        generator = np.random.default_rng(seed)
        for number in range(12):
            pixels = generator.uniform(0, 150, (40, 36, 3))
            pixels[:20] += 90 * (label == "light")
            Image.fromarray(pixels.astype(np.uint8)).save(folder / label / f"{number}.png")


def results_of(run: Path) -> dict[str, Any]:
    """Return what a run decided and predicted: split, probabilities, kept epochs, verdict."""
    decision = run / "adaptation.json"
    results = {
        "kept": _kept(run),
        "split.csv": [",".join(row) for row in _rows(run / "split.csv")],
        "probabilities": {
            f"{row['split']} {row['path']}": {
                name.removeprefix("prob_"): round(float(row[name]), 5)
                for name in row
                if name.startswith("prob_")
            }
            for row in _table(run / "predictions.csv")
        },
    }
    if decision.exists():
        written = json.loads(decision.read_text())
        results["verdict"], results["chosen"] = written["verdict"], written["chosen"]
    return results


def _kept(run: Path) -> dict[str, Any]:
    """Return the phase and epoch whose weights went on to the test, at the source and at the target.

    At the source it is the epoch whose validation loss is that of the predictions on validation, made by
    the model before adaptation; at the target, where `keep` is `last`, the last epoch of the candidate chosen.
    """
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    before = run / "runs" / "source_only"
    predictions = (before if before.exists() else run) / "predictions.csv"
    losses = [
        -math.log(float(row[f"prob_{row['label']}"])) for row in _table(predictions) if row["split"] == "val"
    ]
    kept = {}
    if losses and any("val_loss" in row for row in history):
        mean = sum(losses) / len(losses)
        rows = [row for row in history if row.get("val_loss") is not None]
        nearest = min(rows, key=lambda row: abs(row["val_loss"] - mean))
        assert math.isclose(nearest["val_loss"], mean, rel_tol=1e-3), (nearest, mean)
        kept["source"] = [nearest["phase"], nearest["epoch"]]
    last = [[row["phase"], row["epoch"]] for row in history if row["phase"] == "adapt"]
    if last:
        kept["target"] = last[-1]
    return kept


def json_keys(run: Path) -> set[str]:
    """Return the paths of all keys of the JSON files in a run folder, and the columns of its tables."""
    keys: set[str] = set()
    for file in sorted(path for path in run.rglob("*") if path.is_file()):
        name = "/".join("*" if part in USER_NAMED else part for part in file.relative_to(run).parts)
        if file.suffix == ".json":
            keys |= {f"{name}: {key}" for key in _keys(json.loads(file.read_text()))}
        elif file.suffix == ".jsonl":
            rows = map(json.loads, file.read_text().splitlines())
            keys |= {f"{name}: {key}" for row in rows for key in _keys(row)}
        elif file.suffix == ".csv":
            header = _rows(file)[0]
            keys |= {f"{name}: {_column(column)}" for column in header}
    return keys


def _column(name: str) -> str:
    prefix, _, rest = name.partition("_")
    return f"{prefix}_*" if rest in USER_NAMED else name


def _keys(value: Any, path: str = "") -> Iterator[str]:
    """Yield the path of every value: `[]` stands for an element of a list, `*` for a name that users choose."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            name = "*" if key in USER_NAMED else key
            yield from _keys(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value:
        for inner in value:
            yield from _keys(inner, f"{path}[]")
    else:
        yield path


def _rows(file: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(file.read_text(encoding="utf-8"))))


def _table(file: Path) -> list[dict[str, str]]:
    header, *rows = _rows(file)
    return [dict(zip(header, row, strict=True)) for row in rows]

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
        "target.reader.slices_per_patient=1", "target.reader.image_size_px=32", "target.split.test_fraction=0.6",
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
        "source.model=runs/hospital-unlabelled/export/keras/1", "target.reader.path=c/labels.csv",
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

HOSPITALS = {"a": ("a", 60, 7), "b": ("b", 40, 7), "c": ("b", 40, 11)}
"""Folder: phantom hospital, patients and seed. The last holds other patients of `b`, new to a model adapted to `b`."""

CANDIDATES = {"adabn", "dann", "shot", "histogram_matching", "reinhard", "fine_tune", "source_only"}
NAMED = {
    *CANDIDATES,
    *("dark", "light", "benign", "malignant"),
    *("a", "b"),
    *("class_ami", "bounded_information", "information_maximization", "snd"),
}
"""Names that a recipe or its data brings: candidates, classes, domains, validators."""
SPLITS = {*("train", "val", "test"), *("target_train", "target_val", "target_test", "target_unlabelled")}


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
    for name, (hospital, patients, seed) in HOSPITALS.items():
        if f"path={name}/labels.csv" in settings and not (folder / name).exists():
            words = ("data", "phantom", name, "--hospital", hospital, "--patients", patients)
            size = ("--slices", 1, "--image-size-px", 32)
            answer = call(*words, "--seed", seed, *size, folder=folder)
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
    """Return what a run decided and predicted: kept epochs, verdict, split, probabilities."""
    results: dict[str, Any] = {"kept": {"source": _kept_at_source(run)}}
    if (run / "adaptation.json").exists():
        decision = json.loads((run / "adaptation.json").read_text())
        results["kept"]["target"] = _kept_at_target(run, decision["chosen"])
        results["verdict"], results["chosen"] = decision["verdict"], decision["chosen"]
    results["split.csv"] = [",".join(row) for row in _rows(run / "split.csv")]
    results["probabilities"] = {
        f"{row['split']} {row['path']}": {
            name.removeprefix("prob_"): round(float(row[name]), 5) for name in row if name.startswith("prob_")
        }
        for row in _table(run / "predictions.csv")
    }
    return results


def _kept_at_source(run: Path) -> list[Any] | None:
    """Return the phase and epoch whose weights were kept before adaptation, None without source training.

    The validation loss of this epoch equals that of the validation predictions.
    """
    before = run / "runs" / "source_only" / "predictions.csv"
    losses = [
        math.log(sum(math.exp(float(row[name])) for name in row if name.startswith("logit_")))
        - float(row[f"logit_{row['label']}"])
        for row in _table(before if before.exists() else run / "predictions.csv")
        if row["split"] == "val"
    ]
    epochs = [row for row in _history(run) if row.get("val_loss") is not None]
    if not losses or not epochs:
        return None
    mean = sum(losses) / len(losses)
    kept = min(epochs, key=lambda row: abs(row["val_loss"] - mean))
    assert math.isclose(kept["val_loss"], mean, rel_tol=1e-3), (kept, mean)
    return [kept["phase"], kept["epoch"]]


def _kept_at_target(run: Path, chosen: str) -> list[Any] | None:
    """Return the phase and epoch with which the chosen candidate ended: these phases keep the last epoch."""
    history = _history(run / "runs" / chosen) or _history(run)
    return [history[-1]["phase"], history[-1]["epoch"]] if history else None


def _history(run: Path) -> list[dict[str, Any]]:
    file = run / "history.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def json_keys(run: Path) -> set[str]:
    """Return all keys of the JSON files in a run folder, and the columns of its tables: file, path, name."""
    keys: set[tuple[str, ...]] = set()
    for file in run.rglob("*"):
        parts = file.relative_to(run).parts
        name = "/".join("*" if part in CANDIDATES else part for part in parts)
        if file.suffix == ".json":
            value = json.loads(file.read_text())
            if file.name == "scores.json":
                blocks = [{"*" if key in SPLITS else key: value[key]} for key in value]
            else:
                blocks = [value]
            keys |= {(name, *key) for block in blocks for key in _keys(block)}
        elif file.suffix == ".jsonl":
            rows = map(json.loads, file.read_text().splitlines())
            keys |= {(name, *key) for row in rows for key in _keys(row)}
        elif file.suffix == ".csv":
            keys |= {(name, _column(column)) for column in _rows(file)[0]}
    return {" ".join(key) for key in keys}


def _column(name: str) -> str:
    prefix, _, rest = name.partition("_")
    return f"{prefix}_*" if rest in NAMED else name


def _keys(value: Any, path: str = "", name: str = "") -> Iterator[tuple[str, ...]]:
    """Yield path and name of every value that is not a mapping.

    `[]` stands for the elements of a list, `*` for names from the recipe or its data, and for the packages of `versions.json`.
    """
    if isinstance(value, dict) and value:
        if {"value", "low", "high"} <= set(value):  # an estimate, which has a reason if it has no interval
            value = {**value, "reason": None}
        inside = f"{path}.{name}" if path else name
        for key, inner in value.items():
            yield from _keys(inner, inside, _key(key, inside))
    elif isinstance(value, list):
        for inner in value or [None]:
            yield from _keys(inner, path, f"{name}[]")
    else:
        yield (path, name) if path else (name,)


def _key(key: str, inside: str) -> str:
    if inside == "target_test":  # of adaptation.json
        return key
    is_named = inside == "packages" or set(key.split(" / ")) <= NAMED
    is_split = key in SPLITS and inside.startswith(("runs.", "scores"))
    return "*" if is_named or is_split else key.replace(" ", "_")


def _rows(file: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(file.read_text(encoding="utf-8"))))


def _table(file: Path) -> list[dict[str, str]]:
    header, *rows = _rows(file)
    return [dict(zip(header, row, strict=True)) for row in rows]

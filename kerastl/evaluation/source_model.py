"""A trained model that goes on without its pictures: where it lies, and what it says of itself. No TensorFlow."""

from __future__ import annotations

import json
import math
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerastl.errors import RequestError, naming_damage
from kerastl.evaluation.answering import read_temperature
from kerastl.evaluation.as_exported import READ, check_as_exported
from kerastl.evaluation.trained import DESCRIPTION, MODEL, Description, read_description, remedy_for
from kerastl.recipe import read_plain
from kerastl.runs import BEGUN, read_csv

VALIDATION = "val"
AGAIN = "Run the recipe again."


@dataclass(frozen=True)
class SourceModel:
    """A trained model, and what those need to know who have none of its pictures.

    Args:
        folder: that holds `model.keras` and `model.json`.
        description: classes, size and window of the pictures.
        backbone: its name and options, as in a recipe, without weights.
        dropout: before the head, 0 to 1.
        class_shares: of each class among the training pictures, 0 to 1; None: not told.
        validation: what its validation pictures fixed: `{"temperature", "positive", "points": [{"fixed", "at",
            "threshold"}], "bounded_information": {"value", "low", "high"}}`, the last in nats a picture; None: not told.
    """

    folder: Path
    description: Description
    backbone: dict[str, Any]
    dropout: float
    class_shares: dict[str, float] | None
    validation: dict[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """Return what `model.json` of a portable folder holds: no path, group or picture of the data."""
        one = self.description
        return {
            "class_names": list(one.class_names),
            "image_size_px": one.image_size_px,
            "window": list(one.window) if one.window else None,
            "max_pixels": one.max_pixels,
            "backbone": self.backbone,
            "head": {"dropout": self.dropout},
            "class_shares": self.class_shares,
            "validation": self.validation,
        }


def find_model(path: Path) -> Path:
    """Return the folder of a model: `path` itself, or the highest number in it where an export wrote several."""
    if (path / DESCRIPTION).is_file() or not path.is_dir():
        return path
    numbered = [
        one for one in path.iterdir()
        # One of the two may be lost: the version before it is not the one that is meant.
        if one.name.isdecimal() and any((one / name).is_file() for name in READ)
    ]  # fmt: skip
    return max(numbered, key=lambda one: int(one.name), default=path)


def read_source_model(path: Path) -> SourceModel:
    """Read what a run folder, or a portable folder of one, says of its model.

    Args:
        path: the folder, or one with numbered folders, of which the highest counts.

    Raises:
        RequestError: there is no model, its run is not finished, a file is damaged, or an export is not what was written.
    """
    folder = find_model(path)
    check_as_exported(folder)
    return told_by(folder)


def told_by(folder: Path) -> SourceModel:
    """Return what a folder says of its model; files of an export are not compared with its manifest.

    Raises:
        RequestError: as `read_source_model`.
    """
    description = read_description(folder)
    file = folder / MODEL
    if not file.is_file():
        raise RequestError(f"{folder} holds no {MODEL}. {remedy_for(folder)}")
    if not zipfile.is_zipfile(file):
        raise RequestError(f"{file} is damaged: it is empty or cut. {remedy_for(folder)}")
    try:
        told = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        facts = told if "backbone" in told else _facts_of_run(folder, description)
        return SourceModel(
            folder=folder,
            description=description,
            backbone=_backbone(facts["backbone"]),
            dropout=float(facts["head"]["dropout"]),
            class_shares=_read_shares(facts["class_shares"], description.class_names),
            validation=_validation(facts["validation"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise RequestError(
            f"{folder} does not say what its model is ({type(error).__name__}: {error}). Take a run folder, or what "
            "kerastl export RUN --format keras wrote."
        ) from error


def _facts_of_run(folder: Path, description: Description) -> dict[str, Any]:
    """Return from the other files of a run folder what a portable folder says in its `model.json`."""
    recipe = read_plain((folder / BEGUN).read_text(encoding="utf-8"))
    known = {key: value for key, value in recipe["backbone"].items() if key != "weights"}
    return {
        "backbone": known,
        "head": recipe["head"],
        "class_shares": class_shares_of(folder, description.class_names),
        "validation": fixed_by_validation(folder),
    }


def class_shares_of(folder: Path, class_names: tuple[str, ...]) -> dict[str, float] | None:
    """Return the share of each class among the training pictures."""
    file = folder / "split.csv"
    with naming_damage(file, AGAIN):
        rows = read_csv(file) if file.is_file() else []
        counts = Counter(row["label"] for row in rows if row["split"] == "train")
    total = sum(counts.values())
    return {name: counts[name] / total for name in class_names} if total else None


def fixed_by_validation(folder: Path) -> dict[str, Any] | None:
    """Return what the validation pictures of a run fixed: temperature and thresholds."""
    file = folder / "scores.json"
    with naming_damage(file, AGAIN):
        scores = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        if VALIDATION not in scores:
            return None
        of_val = scores[VALIDATION]
        points = of_val["operating_points"]
        return _validation(
            {
                "temperature": of_val["calibration"]["temperature"]["value"],
                "positive": points["positive"],
                "points": points["points"],
                "bounded_information": _proven(of_val),
            }
        )


def _proven(of_val: Mapping[str, Any]) -> dict[str, float | None] | None:
    """Return what answers were proven to tell of validation pictures, in nats: the entropy of the labels less the log loss."""
    loss = of_val["calibration"].get("overall", {}).get("log_loss", {})
    counts = [sum(row) for row in of_val.get("confusion", [])]
    if loss.get("value") is None or not sum(counts):
        return None
    shares = [count / sum(counts) for count in counts if count]
    labels = -sum(share * math.log(share) for share in shares)
    ends = {"value": loss["value"], "low": loss.get("high"), "high": loss.get("low")}
    return {name: None if one is None else labels - float(one) for name, one in ends.items()}


def _backbone(told: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(told["name"], str):
        raise ValueError("the backbone's name is no text")
    return {str(key): value for key, value in told.items() if key != "weights"}


def _read_shares(told: Any, class_names: tuple[str, ...]) -> dict[str, float] | None:
    if told is None:
        return None
    shares = {name: float(told[name]) for name in class_names}
    if not all(0 <= share <= 1 for share in shares.values()):
        raise ValueError("class_shares must be fractions from 0 to 1")
    return shares


def _validation(told: Any) -> dict[str, Any] | None:
    if told is None:
        return None
    temperature = told["temperature"]
    return {
        "temperature": None if temperature is None else read_temperature(temperature),
        "positive": None if told["positive"] is None else str(told["positive"]),
        "points": [
            {
                "fixed": str(one["fixed"]),
                "at": float(one["at"]),
                "threshold": _read_threshold(one["threshold"]),
            }
            for one in told["points"]
        ],
        "bounded_information": _read_proven(told.get("bounded_information")),
    }


def _read_threshold(told: Any) -> float | None:
    if told is not None and not 0 <= float(told) <= 1:
        raise ValueError(f"a threshold must be a probability from 0 to 1, got {told}")
    return None if told is None else float(told)


def _read_proven(told: Any) -> dict[str, float | None] | None:
    if told is None:
        return None
    value, low, high = (
        None if told[name] is None else float(told[name]) for name in ("value", "low", "high")
    )
    if value is None or not all(
        math.isfinite(one) for one in (value, low, high) if one is not None
    ):
        raise ValueError("bounded_information must be {value, low, high}, numbers of nats")
    return {"value": value, "low": low, "high": high}

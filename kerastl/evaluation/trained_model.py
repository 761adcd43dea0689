"""Open the model of a finished run, with what it needs to see an image the way it was trained."""

from __future__ import annotations

import json
import math
import shlex
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from kerastl.data.decode import decode_images
from kerastl.errors import RequestError, first_line, report_damage
from kerastl.recipe import read_plain
from kerastl.runs import EXPORT_AGAIN, RESOLVED_RECIPE, MANIFEST, compare_hashes, read_csv

Window = tuple[float, float]

MODEL = "model.keras"
DESCRIPTION = "model.json"
LARGEST_SIZE_PX, MOST_PIXELS = 4096, 2**31 - 1
"""As a recipe may ask for."""


@dataclass(frozen=True)
class ModelDescription:
    """What `model.json` of a run folder says.

    Args:
        class_names: in the order of the logits.
        image_size_px: side of the square image that the model takes, in pixels.
        window: (low, high) in stored values for 16-bit grey images; None: the full range.
        max_pixels: height times width above which an image is refused.
        data_root: the folder that the paths in the run's tables are relative to.
        target_root: the same for rows of the target's splits; None: not known, or no target.
    """

    class_names: tuple[str, ...]
    image_size_px: int
    window: Window | None
    max_pixels: int
    data_root: Path | None
    target_root: Path | None

    def root_of(self, split: str) -> Path | None:
        """Return the folder that the paths of a split's rows are relative to."""
        return self.target_root if split.startswith("target") else self.data_root


@dataclass(frozen=True)
class Trained(ModelDescription):
    """A description and its model: `[n, size, size, 3]` float32 in [0, 255] to logits `[n, classes]`.

    `folder` is where both were read; None: they were not.
    """

    model: Any
    folder: Path | None = None

    def probabilities(self, encoded: Sequence[bytes]) -> npt.NDArray[np.float32]:
        """Return the answers for whole image files.

        Args:
            encoded: at least one file's bytes; a TIFF must have been converted.

        Returns:
            `[n, classes]` float32, rows that sum to 1.

        Raises:
            tf.errors.InvalidArgumentError: an image cannot be decoded.
        """
        import tensorflow as tf

        # Not folded: an answer must not depend, to its last bit, on how many batches were asked for.
        logits = tf.cast(self.model(decode_images(encoded, self), training=False), tf.float64)
        return cast(npt.NDArray[np.float32], tf.cast(tf.nn.softmax(logits), tf.float32).numpy())

    def predict(self, encoded: Sequence[bytes]) -> tuple[list[str], npt.NDArray[np.float32]]:
        """Return for whole image files the class with the largest probability, and `probabilities`."""
        probabilities = self.probabilities(encoded)
        return [self.class_names[best] for best in probabilities.argmax(axis=-1)], probabilities


def read_description(run_folder: Path) -> ModelDescription:
    """Read `model.json` of a run folder. No TensorFlow.

    Raises:
        RequestError: not a run folder, a run that is not finished, or a damaged file.
    """
    file = run_folder / DESCRIPTION
    if not file.is_file():
        raise RequestError(_why_missing(run_folder, DESCRIPTION))
    with report_damage(file, remedy_for(run_folder)):
        return description_of(json.loads(file.read_text(encoding="utf-8")))


def remedy_for(folder: Path) -> str:
    """Return what to do where a file of a run folder, or of an export, is damaged: at most one of them has a recipe."""
    return "Run the recipe again." if (folder / RESOLVED_RECIPE).is_file() else EXPORT_AGAIN


def load_trained(run_folder: Path) -> Trained:
    """Open the model of a run folder; a model file that names code to run is refused.

    Raises:
        RequestError: as `read_description`; or `model.keras` is missing, damaged, unsafe, or does
            not agree with `model.json`.
    """
    description = read_description(run_folder)
    file = run_folder / MODEL
    if not file.is_file():
        raise RequestError(_why_missing(run_folder, MODEL))
    import keras

    try:
        model = keras.saving.load_model(file, compile=False, safe_mode=True)
    except (ValueError, TypeError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise RequestError(f"{file} cannot be opened as a Keras model: {first_line(error)}") from error
    _check_agreement(file, model, description)
    return Trained(**vars(description), model=model, folder=run_folder)


def description_of(content: Any) -> ModelDescription:
    """Return what `model.json` of a run, or `manifest.json` of an export, says of a model.

    Raises:
        KeyError, TypeError, ValueError, OverflowError: it is damaged.
    """
    if not isinstance(content, dict):
        raise ValueError("it must be an object")
    names = tuple(content["class_names"])
    if (
        not isinstance(content["class_names"], list)
        or not names
        or not all(isinstance(name, str) for name in names)
    ):
        raise ValueError("class_names must be a list of names")
    if len(set(names)) != len(names):
        raise ValueError("class_names holds a name twice")
    "".join(names).encode()  # raises ValueError where a name is half a character
    size, max_pixels = int(content["image_size_px"]), int(content["max_pixels"])
    if not (1 <= size <= LARGEST_SIZE_PX and 1 <= max_pixels <= MOST_PIXELS):
        raise ValueError(
            f"image_size_px must be 1 to {LARGEST_SIZE_PX}, and max_pixels 1 to {MOST_PIXELS}, got {size} and {max_pixels}"
        )
    return ModelDescription(
        class_names=names,
        image_size_px=size,
        window=_window(content["window"]),
        max_pixels=max_pixels,
        data_root=_folder(content.get("data_root")),
        target_root=_folder(content.get("target_root")),
    )


def _folder(value: str | None) -> Path | None:
    return None if value is None else Path(value)


def _window(value: Any) -> Window | None:
    if value is None:
        return None
    low, high = (float(edge) for edge in value)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"window must be two numbers, low < high, got {value}")
    return low, high


def _check_agreement(file: Path, model: Any, description: ModelDescription) -> None:
    size = description.image_size_px
    wanted = (None, size, size, 3), (None, len(description.class_names))
    found = getattr(model, "input_shape", None), getattr(model, "output_shape", None)
    if wanted != found:
        raise RequestError(
            f"{file} takes {found[0]} and returns {found[1]}, but {DESCRIPTION} beside it describes "
            f"{wanted[0]} and {wanted[1]}. The two files are not of one run."
        )


def _why_missing(run_folder: Path, name: str) -> str:
    if run_folder.exists() and not run_folder.is_dir():
        return f"{run_folder} is a file. Name a folder: a run folder, or what kerastl export RUN --format keras wrote."
    if not run_folder.is_dir():
        return f"There is no run folder {run_folder}."
    if (run_folder / RESOLVED_RECIPE).is_file():
        return (
            f"The run {run_folder} is not finished: it has no {name}. "
            "Finish it with: kerastl run RECIPE --resume --out " + str(run_folder)
        )
    return f"{run_folder} is not a run folder: it has no {name}."


READ = (MODEL, DESCRIPTION)


def check_as_exported(folder: Path) -> None:
    """Refuse an export that is not what was written. A run folder has no manifest and is left alone.

    Files that were added are no fault, unless they are read: those in `READ`.

    Args:
        folder: of a run, or the numbered one of an export.

    Raises:
        RequestError: a file was changed, removed or added, or the manifest is missing or damaged.
    """
    file = folder / MANIFEST
    if not file.is_file():
        if _is_portable(folder):
            raise RequestError(
                f"{folder} is an export without {MANIFEST}: nothing tells whether its files are what was exported. {EXPORT_AGAIN}"
            )
        return
    with report_damage(file, EXPORT_AGAIN):
        told = _told_hashes(json.loads(file.read_text(encoding="utf-8")))
        found = compare_hashes(folder, told)
    found = replace(found, added=tuple(name for name in found.added if name in READ))
    if str(found):
        raise RequestError(
            f"{folder} is not what was exported: {found}. {EXPORT_AGAIN} Compare each file: kerastl verify {shlex.quote(str(folder))}"
        )


def _is_portable(folder: Path) -> bool:
    """Tell whether a folder without manifest was an export: its description tells of the backbone, that of a run does not."""
    file = folder / DESCRIPTION
    if not file.is_file():
        return False
    with report_damage(file, remedy_for(folder)):
        return "backbone" in json.loads(file.read_text(encoding="utf-8"))


def _told_hashes(content: object) -> dict[str, str]:
    if not isinstance(content, dict) or not isinstance(content.get("files"), dict):
        raise ValueError("it must be an object with files, the sha256 of each file")
    return {str(name): str(digest) for name, digest in content["files"].items()}


COLDEST, HOTTEST = 1e-3, 1e3
"""Beyond what `fit_temperature` looks for; a probability survives both."""


def read_temperature(value: Any) -> float:
    """Return a temperature that a file tells.

    Raises:
        TypeError, ValueError, OverflowError: it is none that could have been fitted.
    """
    number = float(value)
    if not COLDEST <= number <= HOTTEST:
        raise ValueError(f"a temperature must be {COLDEST} to {HOTTEST}, got {value}")
    return number


VALIDATION = "val"
AGAIN = "Run the recipe again."


@dataclass(frozen=True)
class SourceModel:
    """A trained model, and what those need to know who have none of its images.

    Args:
        folder: that holds `model.keras` and `model.json`.
        description: classes, size and window of the images.
        backbone: its name and options, as in a recipe, without weights.
        dropout: before the head, 0 to 1.
        class_shares: of each class among the training images, 0 to 1; None: not told.
        validation: what its validation images fixed: `{"temperature", "positive", "points": [{"fixed", "at",
            "threshold"}], "bounded_information": {"value", "low", "high"}}`, the last in nats an image; None: not told.
    """

    folder: Path
    description: ModelDescription
    backbone: dict[str, Any]
    dropout: float
    class_shares: dict[str, float] | None
    validation: dict[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """Return what `model.json` of a portable folder holds: no path, group or image of the data."""
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
    return read_unverified_model(folder)


def read_unverified_model(folder: Path) -> SourceModel:
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


def _facts_of_run(folder: Path, description: ModelDescription) -> dict[str, Any]:
    """Return from the other files of a run folder what a portable folder says in its `model.json`."""
    recipe = read_plain((folder / RESOLVED_RECIPE).read_text(encoding="utf-8"))
    known = {key: value for key, value in recipe["backbone"].items() if key != "weights"}
    return {
        "backbone": known,
        "head": recipe["head"],
        "class_shares": class_shares_of(folder, description.class_names),
        "validation": read_validation_fit(folder),
    }


def class_shares_of(folder: Path, class_names: tuple[str, ...]) -> dict[str, float] | None:
    """Return the share of each class among the training images."""
    file = folder / "split.csv"
    with report_damage(file, AGAIN):
        rows = read_csv(file) if file.is_file() else []
        counts = Counter(row["label"] for row in rows if row["split"] == "train")
    total = sum(counts.values())
    return {name: counts[name] / total for name in class_names} if total else None


def read_validation_fit(folder: Path) -> dict[str, Any] | None:
    """Return what the validation images of a run fixed: temperature and thresholds."""
    file = folder / "scores.json"
    with report_damage(file, AGAIN):
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
    """Return what answers were proven to tell of validation images, in nats: the entropy of the labels less the log loss."""
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
    if value is None or not all(math.isfinite(one) for one in (value, low, high) if one is not None):
        raise ValueError("bounded_information must be {value, low, high}, numbers of nats")
    return {"value": value, "low": low, "high": high}

"""The model of a finished run or of an export, with its preprocessing, class names and validation results."""

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
from kerastl.runs import EXPORT_AGAIN, MANIFEST, RESOLVED_RECIPE, compare_hashes, read_csv
from kerastl.tasks import SINGLE_LABEL

Window = tuple[float, float]

MODEL = "model.keras"
DESCRIPTION = "model.json"
MAX_SIZE_PX, MAX_PIXELS = 4096, 2**31 - 1
"""The limits of a recipe."""


@dataclass(frozen=True)
class ModelDescription:
    """The content of `model.json`.

    Args:
        class_names: Class names in the order of the logits.
        image_size_px: Height and width of the images of the model, in pixels.
        window: (low, high) in stored values for 16-bit gray images. None for the full range.
        max_pixels: Images with more pixels are refused.
        data_root: Folder to which the paths in the tables of the run are relative.
        target_root: The same for the splits of the target. None if unknown, or without a target.
    """

    class_names: tuple[str, ...]
    image_size_px: int
    window: Window | None
    max_pixels: int
    data_root: Path | None
    target_root: Path | None

    def root_of(self, split: str) -> Path | None:
        """Return the folder to which the paths of a split are relative."""
        return self.target_root if split.startswith("target") else self.data_root


@dataclass(frozen=True)
class Trained(ModelDescription):
    """A model with its description.

    Args:
        model: `[n, size, size, 3]` float32 in [0, 255] to logits `[n, classes]`.
        folder: Folder of both. None if they were not read from a folder.
    """

    model: Any
    folder: Path | None = None

    def probabilities(self, encoded: Sequence[bytes]) -> npt.NDArray[np.float32]:
        """Return the probabilities for encoded images.

        Args:
            encoded: The bytes of at least one file. TIFF must be converted first.

        Returns:
            `[n, classes]` float32, rows of sum 1.

        Raises:
            tf.errors.InvalidArgumentError: If an image cannot be decoded.
        """
        import tensorflow as tf

        # Not folded: the last bit of a prediction must not depend on the number of batches.
        logits = tf.cast(self.model(decode_images(encoded, self), training=False), tf.float64)
        return cast(npt.NDArray[np.float32], tf.cast(SINGLE_LABEL.activation(logits), tf.float32).numpy())

    def predict(self, encoded: Sequence[bytes]) -> tuple[list[str], npt.NDArray[np.float32]]:
        """Return the predicted class and the `probabilities` of encoded images."""
        probabilities = self.probabilities(encoded)
        return [self.class_names[index] for index in probabilities.argmax(axis=-1)], probabilities


def read_description(run_folder: Path) -> ModelDescription:
    """Read `model.json` of a run folder, without TensorFlow.

    Raises:
        RequestError: If it is not a run folder, if the run is not finished, or if the file is damaged.
    """
    file = run_folder / DESCRIPTION
    if not file.is_file():
        raise RequestError(_missing_message(run_folder, DESCRIPTION))
    with report_damage(file, repair_hint(run_folder)):
        return parse_description(json.loads(file.read_text(encoding="utf-8")))


def repair_hint(folder: Path) -> str:
    """Return what to do if a file of a run folder or of an export is damaged. Only a run folder has a recipe."""
    return "Run the recipe again." if (folder / RESOLVED_RECIPE).is_file() else EXPORT_AGAIN


def load_trained(run_folder: Path) -> Trained:
    """Load the model of a run folder. A model file that contains code is refused.

    Raises:
        RequestError: As `read_description`; or if `model.keras` is missing, damaged, unsafe, or inconsistent with
            `model.json`.

    Example:
    ```python
    trained = kerastl.evaluation.load_trained(Path("runs/mine"))
    labels, probabilities = trained.predict([Path("image.png").read_bytes()])
    ```
    """
    description = read_description(run_folder)
    file = run_folder / MODEL
    if not file.is_file():
        raise RequestError(_missing_message(run_folder, MODEL))
    import keras

    try:
        model = keras.saving.load_model(file, compile=False, safe_mode=True)
    except (ValueError, TypeError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise RequestError(f"{file} cannot be loaded as a Keras model: {first_line(error)}") from error
    _check_shapes(file, model, description)
    return Trained(**vars(description), model=model, folder=run_folder)


def parse_description(content: Any) -> ModelDescription:
    """Return the description in `model.json` of a run, or in `manifest.json` of an export.

    Raises:
        KeyError, TypeError, ValueError, OverflowError: If it is damaged.
    """
    if not isinstance(content, dict):
        raise ValueError("it must be an object")
    names = tuple(content["class_names"])
    if (
        not isinstance(content["class_names"], list)
        or not names
        or not all(isinstance(name, str) for name in names)
    ):
        raise ValueError("class_names must be a list of strings")
    if len(set(names)) != len(names):
        raise ValueError("class_names must be unique")
    "".join(names).encode()  # raises ValueError for a lone surrogate
    size, max_pixels = int(content["image_size_px"]), int(content["max_pixels"])
    if not (1 <= size <= MAX_SIZE_PX and 1 <= max_pixels <= MAX_PIXELS):
        raise ValueError(
            f"image_size_px must be 1 to {MAX_SIZE_PX}, and max_pixels 1 to {MAX_PIXELS}, got {size} and {max_pixels}"
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
        raise ValueError(f"window must be two numbers [low, high] with low < high, got {value}")
    return low, high


def _check_shapes(file: Path, model: Any, description: ModelDescription) -> None:
    size = description.image_size_px
    expected = (None, size, size, 3), (None, len(description.class_names))
    actual = getattr(model, "input_shape", None), getattr(model, "output_shape", None)
    if expected != actual:
        raise RequestError(
            f"{file} has input shape {actual[0]} and output shape {actual[1]}, but {DESCRIPTION} in the same folder "
            f"expects {expected[0]} and {expected[1]}. The two files are from different runs."
        )


def _missing_message(run_folder: Path, name: str) -> str:
    if run_folder.exists() and not run_folder.is_dir():
        return f"{run_folder} is a file. Give a run folder, or the output folder of kerastl export RUN --format keras."
    if not run_folder.is_dir():
        return f"There is no run folder {run_folder}."
    if (run_folder / RESOLVED_RECIPE).is_file():
        return (
            f"The run {run_folder} is not finished: it has no {name}. "
            "Finish it with: kerastl run RECIPE --resume --out " + str(run_folder)
        )
    return f"{run_folder} is not a run folder: it has no {name}."


MODEL_FILES = (MODEL, DESCRIPTION)


def check_manifest(folder: Path) -> None:
    """Check that the files of an export are unchanged. A run folder has no manifest and is not checked.

    Additional files are allowed, except those in `MODEL_FILES`, which would be read.

    Args:
        folder: A run folder, or the version folder of an export.

    Raises:
        RequestError: If a file was changed, removed or added, or if the manifest is missing or damaged.
    """
    file = folder / MANIFEST
    if not file.is_file():
        if _is_portable(folder):
            raise RequestError(
                f"{folder} is an export without {MANIFEST}, so its files cannot be verified. {EXPORT_AGAIN}"
            )
        return
    with report_damage(file, EXPORT_AGAIN):
        hashes = _read_hashes(json.loads(file.read_text(encoding="utf-8")))
        changes = compare_hashes(folder, hashes)
    changes = replace(changes, added=tuple(name for name in changes.added if name in MODEL_FILES))
    if str(changes):
        raise RequestError(
            f"{folder} differs from its manifest: {changes}. {EXPORT_AGAIN} To list all files: "
            f"kerastl verify {shlex.quote(str(folder))}"
        )


def _is_portable(folder: Path) -> bool:
    """Return whether a folder without a manifest is an export. Its description has a backbone; that of a run does not."""
    file = folder / DESCRIPTION
    if not file.is_file():
        return False
    with report_damage(file, repair_hint(folder)):
        return "backbone" in json.loads(file.read_text(encoding="utf-8"))


def _read_hashes(content: object) -> dict[str, str]:
    if not isinstance(content, dict) or not isinstance(content.get("files"), dict):
        raise ValueError("it must be an object with the key 'files', the sha256 of each file")
    return {str(name): str(digest) for name, digest in content["files"].items()}


MIN_TEMPERATURE, MAX_TEMPERATURE = 1e-3, 1e3
"""A wider range than that of `fit_temperature`, in which probabilities stay finite."""


def read_temperature(value: Any) -> float:
    """Return a temperature from a file.

    Raises:
        TypeError, ValueError, OverflowError: If it is not a number in the valid range.
    """
    number = float(value)
    if not MIN_TEMPERATURE <= number <= MAX_TEMPERATURE:
        raise ValueError(f"a temperature must be {MIN_TEMPERATURE} to {MAX_TEMPERATURE}, got {value}")
    return number


VALIDATION = "val"
AGAIN = "Run the recipe again."


@dataclass(frozen=True)
class SourceModel:
    """A trained model, with the facts that adaptation without source images needs.

    Args:
        folder: Folder of `model.keras` and `model.json`.
        description: Classes, image size and window.
        backbone: Name and options of the backbone as in a recipe, without weights.
        dropout: Dropout rate before the head, 0 to 1.
        class_shares: Frequency of each class among the training images, 0 to 1. None if unknown.
        validation: Results on its validation images: `{"temperature", "positive", "points": [{"fixed", "at",
            "threshold"}], "bounded_information": {"value", "low", "high"}}`, the last in nats per image. None if unknown.
    """

    folder: Path
    description: ModelDescription
    backbone: dict[str, Any]
    dropout: float
    class_shares: dict[str, float] | None
    validation: dict[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """Return the content of `model.json` in an export. It contains no path, group or image of the data."""
        description = self.description
        return {
            "class_names": list(description.class_names),
            "image_size_px": description.image_size_px,
            "window": list(description.window) if description.window else None,
            "max_pixels": description.max_pixels,
            "backbone": self.backbone,
            "head": {"dropout": self.dropout},
            "class_shares": self.class_shares,
            "validation": self.validation,
        }


def find_model(path: Path) -> Path:
    """Return the folder of a model: `path`, or its version folder with the highest number."""
    if (path / DESCRIPTION).is_file() or not path.is_dir():
        return path
    versions = [
        folder for folder in path.iterdir()
        # With either file: the newest version counts even if a file is missing.
        if folder.name.isdecimal() and any((folder / name).is_file() for name in MODEL_FILES)
    ]  # fmt: skip
    return max(versions, key=lambda folder: int(folder.name), default=path)


def read_source_model(path: Path) -> SourceModel:
    """Read the facts of a model from a run folder, or from its export in the format `keras`.

    Args:
        path: The folder, or a folder with version folders, of which the highest number is used.

    Raises:
        RequestError: If there is no model, if the run is not finished, if a file is damaged, or if an export was changed.
    """
    folder = find_model(path)
    check_manifest(folder)
    return read_unverified_model(folder)


def read_unverified_model(folder: Path) -> SourceModel:
    """Read the facts of a model without a check of the manifest of an export.

    Raises:
        RequestError: As `read_source_model`.
    """
    description = read_description(folder)
    file = folder / MODEL
    if not file.is_file():
        raise RequestError(f"{folder} contains no {MODEL}. {repair_hint(folder)}")
    if not zipfile.is_zipfile(file):
        raise RequestError(f"{file} is damaged: it is empty or truncated. {repair_hint(folder)}")
    try:
        content = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        facts = content if "backbone" in content else _read_run_facts(folder, description)
        return SourceModel(
            folder=folder,
            description=description,
            backbone=_parse_backbone(facts["backbone"]),
            dropout=float(facts["head"]["dropout"]),
            class_shares=_parse_class_shares(facts["class_shares"], description.class_names),
            validation=_parse_validation(facts["validation"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise RequestError(
            f"{folder} has no valid description of its model ({type(error).__name__}: {error}). Give a run folder, or "
            "the output of kerastl export RUN --format keras."
        ) from error


def _read_run_facts(folder: Path, description: ModelDescription) -> dict[str, Any]:
    """Return the facts of a run that `model.json` of an export contains."""
    recipe = read_plain((folder / RESOLVED_RECIPE).read_text(encoding="utf-8"))
    return {
        "backbone": recipe["backbone"],
        "head": recipe["head"],
        "class_shares": read_class_shares(folder, description.class_names),
        "validation": read_validation_fit(folder),
    }


def read_class_shares(folder: Path, class_names: tuple[str, ...]) -> dict[str, float] | None:
    """Return the frequency of each class among the training images of a run. None if unknown."""
    file = folder / "split.csv"
    with report_damage(file, AGAIN):
        rows = read_csv(file) if file.is_file() else []
        counts = Counter(row["label"] for row in rows if row["split"] == "train")
    total = sum(counts.values())
    return {name: counts[name] / total for name in class_names} if total else None


def read_validation_fit(folder: Path) -> dict[str, Any] | None:
    """Return temperature, thresholds and information from the validation images of a run. None without them."""
    file = folder / "scores.json"
    with report_damage(file, AGAIN):
        scores = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        if VALIDATION not in scores:
            return None
        val = scores[VALIDATION]
        points = val["operating_points"]
        return _parse_validation(
            {
                "temperature": val["calibration"]["temperature"]["value"],
                "positive": points["positive"],
                "points": points["points"],
                "bounded_information": _bounded_information(val),
            }
        )


def _bounded_information(val: Mapping[str, Any]) -> dict[str, float | None] | None:
    """Return a lower bound of the mutual information of predictions and labels: the label entropy minus the log loss."""
    loss = val["calibration"].get("overall", {}).get("log_loss", {})
    counts = [sum(row) for row in val.get("confusion", [])]
    if loss.get("value") is None or not sum(counts):
        return None
    frequencies = [count / sum(counts) for count in counts if count]
    entropy = -sum(frequency * math.log(frequency) for frequency in frequencies)
    losses = {"value": loss["value"], "low": loss.get("high"), "high": loss.get("low")}
    return {name: None if value is None else entropy - float(value) for name, value in losses.items()}


def _parse_backbone(content: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(content["name"], str):
        raise ValueError("the name of the backbone must be a string")
    return {str(key): value for key, value in content.items() if key != "weights"}


def _parse_class_shares(content: Any, class_names: tuple[str, ...]) -> dict[str, float] | None:
    if content is None:
        return None
    shares = {name: float(content[name]) for name in class_names}
    if not all(0 <= share <= 1 for share in shares.values()):
        raise ValueError("class_shares must be from 0 to 1")
    return shares


def _parse_validation(content: Any) -> dict[str, Any] | None:
    if content is None:
        return None
    temperature = content["temperature"]
    return {
        "temperature": None if temperature is None else read_temperature(temperature),
        "positive": None if content["positive"] is None else str(content["positive"]),
        "points": [
            {
                "fixed": str(point["fixed"]),
                "at": float(point["at"]),
                "threshold": _parse_threshold(point["threshold"]),
            }
            for point in content["points"]
        ],
        "bounded_information": _parse_information(content.get("bounded_information")),
    }


def _parse_threshold(content: Any) -> float | None:
    if content is not None and not 0 <= float(content) <= 1:
        raise ValueError(f"a threshold must be from 0 to 1, got {content}")
    return None if content is None else float(content)


def _parse_information(content: Any) -> dict[str, float | None] | None:
    if content is None:
        return None
    values = {
        name: None if content[name] is None else float(content[name]) for name in ("value", "low", "high")
    }
    if values["value"] is None or not all(
        math.isfinite(value) for value in values.values() if value is not None
    ):
        raise ValueError("bounded_information must be {value, low, high}, finite numbers in nats")
    return values

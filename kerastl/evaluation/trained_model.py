"""The model of a finished run or of an export, with its preprocessing, class names and validation results."""

from __future__ import annotations

import hashlib
import math
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from kerastl.errors import RequestError, first_line, nearest, quote, report_damage, shell_command
from kerastl.image_size import Resize, Size
from kerastl.models import public_name
from kerastl.options import checked
from kerastl.recipe import read_plain
from kerastl.runs import EXPORT_AGAIN, MANIFEST, RESOLVED_RECIPE, Run, compare_hashes, read_csv, schemas
from kerastl.tasks import SINGLE_LABEL

Window = tuple[float, float]

MODEL = "model.keras"
DESCRIPTION = schemas.ModelDescription.FILE
IMAGE_FIELDS = set(schemas.ImageModel.model_fields)
"""The fields of a description that are also those of a loaded model."""


@dataclass(frozen=True)
class Trained:
    """A model with its description.

    Args:
        class_names: Class names in the order of the logits.
        image_size_px: (height, width) of the images of the model, in pixels.
        window: (low, high) in stored values for 16-bit gray images. None for the full range.
        max_pixels: Images with more pixels are refused.
        model: `[n, height, width, 3]` float32 in [0, 255] to logits `[n, classes]`.
        folder: The folder that the model and its description were read from, or None.
        temperature: Divisor of the logits in the probabilities, above 0. None for 1.
        resize: How images with a different aspect ratio are resized.
    """

    class_names: tuple[str, ...]
    image_size_px: Size
    window: Window | None
    max_pixels: int
    model: Any
    folder: Path | None = None
    temperature: float | None = None
    resize: Resize = "stretch"

    def logits(self, encoded: Sequence[bytes]) -> npt.NDArray[np.float32]:
        """Return the logits for encoded images: `[n, classes]` float32.

        Args:
            encoded: The bytes of at least one file. TIFF must be converted first.

        Raises:
            tf.errors.InvalidArgumentError: If an image cannot be decoded.
        """
        import tensorflow as tf

        from kerastl.data.decode import decode_images

        # Not folded: the last bit of a prediction must not depend on the number of batches.
        images = decode_images(encoded, self.image_size_px, self.resize, self.window, self.max_pixels)
        return cast(npt.NDArray[np.float32], tf.cast(self.model(images, training=False), tf.float32).numpy())

    def probabilities(self, encoded: Sequence[bytes]) -> npt.NDArray[np.float32]:
        """Return the probabilities for encoded images, as in `predictions.csv` and in the exports of the run.

        Args:
            encoded: As in `logits`.

        Returns:
            `[n, classes]` float32, rows of sum 1, scaled with the temperature.
        """
        return SINGLE_LABEL.probabilities(self.logits(encoded), self.temperature).astype(np.float32)

    def predict(self, encoded: Sequence[bytes]) -> tuple[list[str], npt.NDArray[np.float32]]:
        """Return the predicted class and the `probabilities` of encoded images."""
        probabilities = self.probabilities(encoded)
        return [self.class_names[index] for index in probabilities.argmax(axis=-1)], probabilities


def read_description(run_folder: Path) -> schemas.ModelDescription:
    """Read `model.json` of a run folder, without TensorFlow.

    Raises:
        RequestError: If it is not a run folder, if the run is not finished, or if the file is damaged.
    """
    if not (run_folder / DESCRIPTION).is_file():
        raise RequestError(missing_message(run_folder, DESCRIPTION))
    return schemas.ModelDescription.read(run_folder, remedy=repair_hint(run_folder))


def repair_hint(folder: Path) -> str:
    """Return what to do if a file of a run folder or of an export is damaged. Only a run folder has a recipe."""
    return schemas.RUN_AGAIN if (folder / RESOLVED_RECIPE).is_file() else EXPORT_AGAIN


@checked
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
    model = load_network(run_folder)
    _check_shapes(run_folder / MODEL, model, description)
    if description.fingerprint not in (None, fingerprint(weights_fingerprint(model), description)):
        raise RequestError(
            f"{run_folder / DESCRIPTION} was edited, or belongs to a different run than {MODEL}. Restore both files, or "
            "run the recipe again."
        )
    return Trained(
        **{name: getattr(description, name) for name in IMAGE_FIELDS}, model=model, folder=run_folder,
        temperature=description.temperature,
    )  # fmt: skip


def load_network(run_folder: Path) -> Any:
    """Load the `keras.Model` of a run folder, even if the run is not evaluated yet and has no description.

    Raises:
        RequestError: If `model.keras` is missing, damaged or unsafe.
    """
    file = run_folder / MODEL
    _check_network(file)
    import keras

    from kerastl.models import repaired

    try:
        return repaired(keras.saving.load_model(file, compile=False, safe_mode=True))
    except (ValueError, TypeError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise RequestError(f"{file} cannot be loaded as a Keras model: {first_line(error)}") from error


def weights_fingerprint(model: Any) -> str:
    """Return the sha256 over shape, dtype and bytes of each weight, in the order of the model.

    It is computed before BatchNorm layers are folded.
    """
    digest = hashlib.sha256()
    for variable in model.weights:
        array = np.ascontiguousarray(variable)
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def fingerprint(weights: str, description: schemas.ModelDescription) -> str:
    """Return the sha256 over `weights_fingerprint` and the fields of a description that determine the probabilities."""
    fields = description.model_dump_json(include={*IMAGE_FIELDS, "temperature"}, exclude_unset=True)
    return hashlib.sha256(f"{weights}{fields}".encode()).hexdigest()


def _check_network(file: Path) -> None:
    """Raise RequestError if a `.keras` file is missing, or if it is not a complete archive."""
    if not file.is_file():
        raise RequestError(missing_message(file.parent, file.name))
    if not zipfile.is_zipfile(file):
        raise RequestError(f"{file} is damaged: it is empty or truncated. {repair_hint(file.parent)}")


def _check_shapes(file: Path, model: Any, description: schemas.ModelDescription) -> None:
    expected = (None, *description.image_size_px, 3), (None, len(description.class_names))
    actual = getattr(model, "input_shape", None), getattr(model, "output_shape", None)
    if expected != actual:
        raise RequestError(
            f"{file} has input shape {actual[0]} and output shape {actual[1]}, but {DESCRIPTION} in the same folder "
            f"expects {expected[0]} and {expected[1]}. The two files are from different runs."
        )


def missing_message(run_folder: Path, name: str) -> str:
    """Return why a folder that lacks something, such as a file, is not a finished run, and the command that finishes it."""
    if run_folder.exists() and not run_folder.is_dir():
        return f"{run_folder} is a file. Specify a run folder, or the output folder of kerastl export RUN --format keras."
    if not run_folder.is_dir():
        near = nearest(run_folder.name, [item.name for item in run_folder.parent.glob("*")])
        hint = (
            f"There is {quote(str(run_folder.with_name(near)))}."
            if near
            else "Specify an existing run folder."
        )
        return f"Run folder not found: {run_folder}. {hint}"
    run = Run(run_folder)
    if run.finished:
        return f"{run_folder} is damaged: it has no {name}. {schemas.RUN_AGAIN}"
    if run.file(RESOLVED_RECIPE).is_file():
        return f"The run {run_folder} is not finished: it has no {name}. To finish it: {run.resume_command}"
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
    if not (folder / MANIFEST).is_file():
        # The description in an export has a backbone; that of a run does not.
        if (folder / DESCRIPTION).is_file() and read_description(folder).backbone is not None:
            raise RequestError(
                f"{folder} is an export without {MANIFEST}, so its files cannot be verified. {EXPORT_AGAIN}"
            )
        return
    manifest = schemas.ManifestFile.read(folder, remedy=EXPORT_AGAIN)
    changes = compare_hashes(folder, manifest.files, report_added=MODEL_FILES)
    if changes:
        raise RequestError(
            f"{folder} differs from its manifest: {changes}. {EXPORT_AGAIN} To list all files: "
            f"{shell_command('kerastl', 'verify', folder)}"
        )


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


def read_source_model(folder: Path) -> schemas.ModelDescription:
    """Read the description of a model, with the facts that adaptation without source images needs.

    Args:
        folder: A run folder, or the version folder of its export in the format `keras`.

    Returns:
        The content of `model.json` in an export, with backbone and head. It contains no path, group or image of the data.

    Raises:
        RequestError: If there is no model, if the run is not finished, if a file is damaged, or if an export was changed.
    """
    check_manifest(folder)
    return read_unverified_model(folder)


def read_unverified_model(folder: Path) -> schemas.ModelDescription:
    """Read the description of a model without a check of the manifest of an export.

    Raises:
        RequestError: As `read_source_model`.
    """
    description = read_description(folder)
    _check_network(folder / MODEL)
    try:
        if description.backbone is None:
            description = _describe_run(folder, description)
        if description.head is None:
            raise ValueError("the head is missing")
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise RequestError(
            f"{folder} has no valid description of its model ({type(error).__name__}: {error}). Specify a run folder, or "
            "the output of kerastl export RUN --format keras."
        ) from error
    return description


def _describe_run(folder: Path, description: schemas.ModelDescription) -> schemas.ModelDescription:
    """Return the description of the model of a run that `model.json` of an export contains."""
    recipe = read_plain((folder / RESOLVED_RECIPE).read_text(encoding="utf-8"))
    validation = read_validation_fit(folder)
    if validation and validation.temperature != description.temperature:
        # The thresholds apply only to probabilities with the temperature from validation.
        validation = validation.model_copy(update={"points": ()})
    backbone = {key: value for key, value in recipe["backbone"].items() if key != "weights"}
    backbone["name"] = public_name(backbone["name"])
    return schemas.ModelDescription(
        **description.model_dump(include={*IMAGE_FIELDS, "temperature"}),
        backbone=schemas.BackboneDescription(**backbone),
        head=schemas.HeadDescription(
            **{key: value for key, value in recipe["head"].items() if value not in (False, "auto")}
        ),
        class_shares=read_class_shares(folder, description.class_names),
        validation=validation,
    )


def read_class_shares(folder: Path, class_names: tuple[str, ...]) -> dict[str, float] | None:
    """Return the frequency of each class among the training images of a run. None if unknown."""
    file = folder / "split.csv"
    with report_damage(file, schemas.RUN_AGAIN):
        rows = read_csv(file) if file.is_file() else []
        counts = Counter(row["label"] for row in rows if row["split"] == "train")
    total = sum(counts.values())
    return {name: counts[name] / total for name in class_names} if total else None


def read_validation_fit(folder: Path) -> schemas.ValidationResults | None:
    """Return temperature, thresholds and information from the validation images of a run. None without them."""
    scores = schemas.Scores.read_if_present(folder)
    val = scores.val if scores else None
    if val is None or val.operating_points is None or val.calibration is None:
        return None
    return schemas.ValidationResults(
        temperature=val.calibration.temperature.value,
        positive=val.operating_points.positive,
        points=tuple(
            schemas.OperatingPoint(fixed=point.fixed, at=point.at, threshold=point.threshold)
            for point in val.operating_points.points
        ),
        bounded_information=_bounded_information(val, val.calibration.after.overall.get("log_loss")),
    )


def _bounded_information(val: schemas.SplitScores, loss: schemas.Estimate | None) -> schemas.Estimate | None:
    """Return a lower bound of the mutual information of predictions and labels: the label entropy minus the log loss."""
    counts = [sum(row) for row in val.confusion]
    if loss is None or loss.value is None or not sum(counts):
        return None
    frequencies = [count / sum(counts) for count in counts if count]
    entropy = -sum(frequency * math.log(frequency) for frequency in frequencies)
    return schemas.Estimate(
        value=entropy - loss.value,
        low=None if loss.high is None else entropy - loss.high,
        high=None if loss.low is None else entropy - loss.low,
    )

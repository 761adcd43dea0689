"""Open the model of a finished run, with what it needs to see a picture the way it was trained."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from kerastl.data.decode import decoded
from kerastl.errors import RequestError, first_line, naming_damage
from kerastl.runs import ANEW, BEGUN

Window = tuple[float, float]

MODEL = "model.keras"
DESCRIPTION = "model.json"
LARGEST_SIZE_PX, MOST_PIXELS = 4096, 2**31 - 1
"""As a recipe may ask for."""


@dataclass(frozen=True)
class Description:
    """What `model.json` of a run folder says.

    Args:
        class_names: in the order of the logits.
        image_size_px: side of the square picture that the model takes, in pixels.
        window: (low, high) in stored values for 16-bit grey pictures; None: the full range.
        max_pixels: height times width above which a picture is refused.
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
class Trained(Description):
    """A description and its model: `[n, size, size, 3]` float32 in [0, 255] to logits `[n, classes]`.

    `folder` is where both were read; None: they were not.
    """

    model: Any
    folder: Path | None = None

    def probabilities(self, encoded: Sequence[bytes]) -> npt.NDArray[np.float32]:
        """Return the answers for whole picture files.

        Args:
            encoded: at least one file's bytes; a TIFF must have been converted.

        Returns:
            `[n, classes]` float32, rows that sum to 1.

        Raises:
            tf.errors.InvalidArgumentError: a picture cannot be decoded.
        """
        import tensorflow as tf

        # Not folded: an answer must not depend, to its last bit, on how many batches were asked for.
        logits = tf.cast(self.model(decoded(encoded, self), training=False), tf.float64)
        return cast(npt.NDArray[np.float32], tf.cast(tf.nn.softmax(logits), tf.float32).numpy())

    def answers(self, encoded: Sequence[bytes]) -> tuple[list[str], npt.NDArray[np.float32]]:
        """Return for whole picture files the class with the largest probability, and `probabilities`."""
        probabilities = self.probabilities(encoded)
        return [self.class_names[best] for best in probabilities.argmax(axis=-1)], probabilities


def read_description(run_folder: Path) -> Description:
    """Read `model.json` of a run folder. No TensorFlow.

    Raises:
        RequestError: not a run folder, a run that is not finished, or a damaged file.
    """
    file = run_folder / DESCRIPTION
    if not file.is_file():
        raise RequestError(_why_missing(run_folder, DESCRIPTION))
    with naming_damage(file, remedy_for(run_folder)):
        return description_of(json.loads(file.read_text(encoding="utf-8")))


def remedy_for(folder: Path) -> str:
    """Return what to do where a file of a run folder, or of an export, is damaged: at most one of them has a recipe."""
    return "Run the recipe again." if (folder / BEGUN).is_file() else ANEW


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
        raise RequestError(
            f"{file} cannot be opened as a Keras model: {first_line(error)}"
        ) from error
    _check_agreement(file, model, description)
    return Trained(**vars(description), model=model, folder=run_folder)


def description_of(content: Any) -> Description:
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
    return Description(
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


def _check_agreement(file: Path, model: Any, description: Description) -> None:
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
    if (run_folder / BEGUN).is_file():
        return (
            f"The run {run_folder} is not finished: it has no {name}. "
            "Finish it with: kerastl run RECIPE --resume --out " + str(run_folder)
        )
    return f"{run_folder} is not a run folder: it has no {name}."

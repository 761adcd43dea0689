"""Find an export and load it for prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from kerastl.errors import RequestError, first_line
from kerastl.evaluation.trained_model import DESCRIPTION, find_model
from kerastl.export.graph_check import GRAPH, check_graph
from kerastl.export.manifest import Manifest, read_manifest
from kerastl.runs import MANIFEST


@dataclass(frozen=True)
class LoadedExport:
    """A model that was loaded with its manifest."""

    manifest: Manifest

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names, in the order of the probabilities."""
        return self.manifest.class_names

    @property
    def max_pixels(self) -> int:
        """The largest height times width that is decoded."""
        return self.manifest.max_pixels


@dataclass(frozen=True)
class SavedModelExport(LoadedExport):
    """A SavedModel that was loaded.

    Args:
        folder: the version folder.
        loaded: TensorFlow's object; the endpoints exist as long as it is referenced.
    """

    folder: Path
    loaded: Any

    def predict(self, encoded: Sequence[bytes]) -> tuple[list[str], npt.NDArray[np.float32]]:
        """Return the predicted class names and `[n, classes]` float32 probabilities.

        Args:
            encoded: at least one whole image file.

        Raises:
            tf.errors.InvalidArgumentError: an image cannot be decoded.
            RequestError: the class names differ from the manifest.
        """
        import tensorflow as tf

        outputs = self.loaded.signatures["serving_default"](tf.constant(list(encoded)))
        check_same_classes(
            self.folder, [name.decode() for name in outputs["class_names"].numpy()[0]], self.manifest
        )
        predicted = [name.decode() for name in outputs["predicted"].numpy()]
        return predicted, cast(npt.NDArray[np.float32], outputs["probabilities"].numpy())


def check_same_classes(folder: Path, names: Sequence[str], manifest: Manifest) -> None:
    """Raise RequestError if the class names of a model differ from its manifest."""
    if tuple(names) != manifest.class_names:
        raise RequestError(
            f"{folder} is damaged: its classes are {list(names)}, but its manifest has "
            f"{list(manifest.class_names)}. Export the run again."
        )


def find_export(path: Path) -> Path | None:
    """Return the version folder of a SavedModel: `path` itself, or the highest version in it; None if there is none."""
    if (path / GRAPH).is_file():
        return path
    if not path.is_dir():
        return None
    versions = [folder for folder in path.iterdir() if folder.name.isdecimal() and (folder / GRAPH).is_file()]
    return max(versions, key=lambda folder: int(folder.name), default=None)


def find_keras_export(path: Path) -> Path | None:
    """Return the folder of a Keras export: `path` itself, or the highest version in it; None if there is none."""
    folder = find_model(path)
    is_complete = (folder / MANIFEST).is_file() and (folder / DESCRIPTION).is_file()
    return folder if is_complete else None


def read_export(path: Path) -> SavedModelExport:
    """Load a SavedModel, if the static check of its graph finds no forbidden operation.

    Args:
        path: the version folder, or the folder of all versions, of which the highest is loaded.

    Raises:
        RequestError: it is not an export of kerastl, it is damaged, or its graph is unsafe.
    """
    folder = find_export(path)
    if folder is None:
        raise RequestError(f"{path} is not an export: it has no {GRAPH}.")
    manifest = read_manifest(folder)
    check_graph(folder)
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(folder))
    except Exception as error:  # a damaged file can raise anything, such as IndexError
        raise RequestError(f"{folder} cannot be loaded: {first_line(error)}") from error
    if "serving_default" not in loaded.signatures:
        raise RequestError(f"{folder} has no endpoint serving_default.")
    return SavedModelExport(manifest, folder, loaded)

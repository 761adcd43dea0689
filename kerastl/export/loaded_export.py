"""Open an export and ask it, as a server would."""

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
class Opened:
    """A model in memory that came with a manifest.

    Args:
        manifest: what it says of itself.
    """

    manifest: Manifest

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of the probabilities."""
        return self.manifest.class_names

    @property
    def max_pixels(self) -> int:
        """Height times width above which an image is refused."""
        return self.manifest.max_pixels


@dataclass(frozen=True)
class Export(Opened):
    """An export in memory.

    Args:
        folder: the numbered folder.
        loaded: TensorFlow's object; the endpoints live as long as it is held.
    """

    folder: Path
    loaded: Any

    def probabilities(self, encoded: Sequence[bytes]) -> npt.NDArray[np.float32]:
        """Return the answers for whole image files.

        Args:
            encoded: at least one file's bytes.

        Returns:
            `[n, classes]` float32, rows that sum to 1.

        Raises:
            tf.errors.InvalidArgumentError: an image cannot be decoded.
            RequestError: the export names other classes than its manifest.
        """
        return self.answers(encoded)[1]

    def answers(self, encoded: Sequence[bytes]) -> tuple[list[str], npt.NDArray[np.float32]]:
        """Return for whole image files the class that the export names, and `probabilities`.

        Raises:
            tf.errors.InvalidArgumentError, RequestError: as `probabilities`.
        """
        import tensorflow as tf

        answers = self.loaded.signatures["serving_default"](tf.constant(list(encoded)))
        names = tuple(name.decode() for name in answers["class_names"].numpy()[0])
        if names != self.class_names:
            raise RequestError(
                f"{self.folder} is damaged: it answers for {list(names)}, its manifest says "
                f"{list(self.class_names)}. Export the run again."
            )
        predicted = [name.decode() for name in answers["predicted"].numpy()]
        return predicted, cast(npt.NDArray[np.float32], answers["probabilities"].numpy())


def find_export(path: Path) -> Path | None:
    """Return the numbered folder of an export: `path` itself, or the highest number in it; None: neither."""
    if (path / GRAPH).is_file():
        return path
    if not path.is_dir():
        return None
    found = [one for one in path.iterdir() if one.name.isdecimal() and (one / GRAPH).is_file()]
    return max(found, key=lambda one: int(one.name), default=None)


def find_portable(path: Path) -> Path | None:
    """Return the portable folder that is meant: `path`, or the highest number in it; None: there is none."""
    folder = find_model(path)
    whole = (folder / MANIFEST).is_file() and (folder / DESCRIPTION).is_file()
    return folder if whole else None


def read_export(path: Path) -> Export:
    """Load an export, if the static check of its graph finds no operation for which it is refused.

    Raises:
        RequestError: not an export of kerastl, a damaged one, or one that the static check refuses.
    """
    folder = find_export(path)
    if folder is None:
        raise RequestError(f"{path} is not an export: it holds no {GRAPH}.")
    manifest = read_manifest(folder)
    check_graph(folder)
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(folder))
    except Exception as error:  # a cut or turned byte may raise anything, such as IndexError
        raise RequestError(f"{folder} cannot be loaded: {first_line(error)}") from error
    if "serving_default" not in loaded.signatures:
        raise RequestError(f"{folder} has no endpoint serving_default.")
    return Export(manifest, folder, loaded)

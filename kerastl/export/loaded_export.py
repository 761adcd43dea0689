"""Load an export for prediction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from kerastl.errors import RequestError, first_line
from kerastl.export.formats import PORTABLE, ExportFolder, check_formats, find_export
from kerastl.export.graph_check import DEFAULT_SIGNATURE, GRAPH, check_graph
from kerastl.export.manifest import Manifest, read_manifest
from kerastl.options import checked

Floats = npt.NDArray[np.float32]
Predict = Callable[[Sequence[bytes]], tuple[list[str], Floats]]


@dataclass(frozen=True)
class LoadedExport:
    """An export that was loaded in its runtime.

    Args:
        class_names: Class names in the order of the probabilities.
        max_pixels: Maximum height times width of an image that is decoded.
        predict: A function from at least one whole image file to the predicted class names and `[n, classes]`
            float32 probabilities. It raises `tf.errors.InvalidArgumentError` if an image cannot be decoded.
    """

    class_names: tuple[str, ...]
    max_pixels: int
    predict: Predict


@checked
def read_export(path: Path) -> LoadedExport:
    """Load an export. A SavedModel is loaded only if the static check of its graph finds no forbidden operation.

    Args:
        path: The version folder, or the folder of all versions, of which the highest is loaded.

    Raises:
        RequestError: It is not an export of kerastl, it is damaged, its runtime is not installed, its graph
            is unsafe, or its class names differ from its manifest.
    """
    export = find_export(path)
    if export is None or export.format_name == PORTABLE:
        raise RequestError(f"{path} is not an export: it has no {GRAPH}.")
    manifest = read_manifest(export.folder)
    class_names, max_pixels = manifest.class_names, manifest.max_pixels
    if not export.is_converted:
        return LoadedExport(class_names, max_pixels, _load_saved_model(export.folder, manifest))
    predict_images = load_converted(export, manifest)

    def predict(encoded: Sequence[bytes]) -> tuple[list[str], Floats]:
        from kerastl.data.decode import decode_images

        images = decode_images(encoded, manifest.image_size_px, manifest.resize, manifest.window, max_pixels)
        probabilities = predict_images(images)
        logits = manifest.postprocessing.invert(probabilities)
        return manifest.postprocessing.predict_labels(logits, class_names), probabilities

    return LoadedExport(class_names, max_pixels, predict)


def _load_saved_model(folder: Path, manifest: Manifest) -> Predict:
    check_graph(folder)
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(folder))
    except Exception as error:  # a damaged file can raise anything, such as IndexError
        raise RequestError(f"{folder} cannot be loaded: {first_line(error)}") from error
    endpoint = loaded.signatures.get(DEFAULT_SIGNATURE)
    inputs = [] if endpoint is None else [*endpoint.structured_input_signature[1]]
    if len(inputs) != 1:
        raise RequestError(f"{folder} has no endpoint {DEFAULT_SIGNATURE} with one input.")

    def predict(encoded: Sequence[bytes]) -> tuple[list[str], Floats]:
        # `loaded` is referenced here, because its endpoints exist as long as it does. A positional argument costs 30 ms.
        outputs = loaded.signatures[DEFAULT_SIGNATURE](**{inputs[0]: tf.constant(list(encoded))})
        _check_same_classes(folder, [name.decode() for name in outputs["class_names"].numpy()[0]], manifest)
        return [name.decode() for name in outputs["predicted"].numpy()], outputs["probabilities"].numpy()

    return predict


def load_converted(export: ExportFolder, manifest: Manifest) -> Callable[[Any], Floats]:
    """Load a converted model, and return the function from images to probabilities.

    Its input is `[n, height, width, 3]` float32 in [0, 255], its output `[n, classes]` float32. Threads may
    share it.

    Raises:
        RequestError: Its runtime is not installed, it is damaged, or its class names differ from its
            manifest.
    """
    check_formats([export.format_name])
    try:
        names, predict = export.module.load(export.folder)
    except Exception as error:  # each runtime has errors of its own
        raise RequestError(f"{export.folder} cannot be loaded: {first_line(error)}") from error
    _check_same_classes(export.folder, names, manifest)
    lock = Lock()

    def predict_locked(images: Any) -> Floats:
        # Neither LiteRT's interpreter nor a request of OpenVINO can be used by two threads at once.
        with lock:
            return predict(images)

    return predict_locked


def _check_same_classes(folder: Path, names: Sequence[str], manifest: Manifest) -> None:
    if tuple(names) != manifest.class_names:
        raise RequestError(
            f"{folder} is damaged: its classes are {list(names)}, but its manifest has "
            f"{list(manifest.class_names)}. Export the run again."
        )

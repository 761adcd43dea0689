"""Write a model as a TensorFlow SavedModel that TF Serving runs as it lies."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from kerastl.backbones import for_inference
from kerastl.data.decode import MAX_PIXELS
from kerastl.errors import RequestError
from kerastl.evaluation.answering import AS_LEARNT, Answering
from kerastl.export.endpoints import Served, endpoints_of
from kerastl.export.method_names import name_classify
from kerastl.export.numbered import write_numbered


def export_saved_model(
    model: keras.Model,
    out: Path | str,
    *,
    class_names: Sequence[str],
    image_size_px: int,
    window: tuple[float, float] | None = None,
    max_pixels: int = MAX_PIXELS,
    answering: Answering = AS_LEARNT,
) -> Path:
    """Write a model under the next free number of a folder; nothing is ever overwritten.

    Args:
        model: `[n, size, size, 3]` float32 in [0, 255] to logits `[n, classes]`; without augmentation.
        out: the folder that TF Serving is pointed at; the model goes to `out/1`, or to the number
            after the highest there.
        class_names: in the order of the logits.
        image_size_px: side of the square picture that the model takes, in pixels.
        window: (low, high) in stored values for 16-bit grey PNG; None: the full range.
        max_pixels: height times width above which a picture is refused unread.
        answering: temperature, prevalence and threshold that the answers are told at.

    Returns:
        The folder written, e.g. `out/1`: the SavedModel with the endpoints `serving_default`, `pixels`, `classify`,
        and where the model pools one feature map `features` and `explain` (see `kerastl.export.endpoints`), and
        `manifest.json`.

    Raises:
        RequestError: the class names do not fit the model, or `out` is not a folder.
        OSError: the disk is full; no half export is left.
    """
    _check_model(model, class_names, image_size_px)

    def fill(folder: Path) -> None:
        # In the graph the BatchNorms are folded; what it was made of is told by the plain model's fingerprint.
        served = Served(
            for_inference(model), tuple(class_names), image_size_px, window, max_pixels, answering
        )
        _write_graph(served, folder)

    return write_numbered(
        Path(out), fill, class_names=class_names, image_size_px=image_size_px, window=window,
        max_pixels=max_pixels, model_sha256=weights_fingerprint(model),
        answering=answering.to_json(class_names),
    )  # fmt: skip


def weights_fingerprint(model: keras.Model) -> str:
    """Return the sha256 over shape, type and bytes of every weight, in the model's order."""
    digest = hashlib.sha256()
    for variable in model.weights:
        array = np.ascontiguousarray(keras.ops.convert_to_numpy(variable))
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _check_model(model: keras.Model, class_names: Sequence[str], image_size_px: int) -> None:
    names = list(class_names)
    if len(set(names)) != len(names):
        raise RequestError(f"A class name stands twice in {names}.")
    if model.output_shape != (None, len(names)):
        raise RequestError(
            f"The model returns {model.output_shape}, but {len(names)} class names were given."
        )
    if model.input_shape != (None, image_size_px, image_size_px, 3):
        raise RequestError(
            f"The model takes {model.input_shape}, not pictures of "
            f"{image_size_px} x {image_size_px} pixels in three colours."
        )


def _write_graph(served: Served, folder: Path) -> None:
    archive = keras.export.ExportArchive()
    archive.track(served.model)
    for name, (endpoint, takes) in endpoints_of(served).items():
        archive.add_endpoint(name, endpoint, input_signature=[takes])
    archive.write_out(str(folder), verbose=False)
    name_classify(folder)

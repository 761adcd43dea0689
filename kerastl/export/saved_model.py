"""Write a model as a TensorFlow SavedModel that TF Serving runs as it lies."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerastl.data.decode import MAX_PIXELS
from kerastl.errors import RequestError
from kerastl.evaluation.trained_model import AS_LEARNT, Answering
from kerastl.export.endpoints import Served, endpoints_of
from kerastl.export.method_names import name_classify
from kerastl.export.numbered import made_with, write_numbered
from kerastl.export.serving.beside import write_beside
from kerastl.export.serving.facts import NOTHING, Facts
from kerastl.export.serving.inside import write_inside
from kerastl.models import for_inference


def export_saved_model(
    model: keras.Model,
    out: Path | str,
    *,
    class_names: Sequence[str],
    image_size_px: int,
    window: tuple[float, float] | None = None,
    max_pixels: int = MAX_PIXELS,
    answering: Answering = AS_LEARNT,
    version: int | None = None,
    facts: Facts = NOTHING,
) -> Path:
    """Write a model under a free number of a folder, and beside it what a server needs; no version is ever overwritten.

    Args:
        model: `[n, size, size, 3]` float32 in [0, 255] to logits `[n, classes]`; without augmentation.
        out: the folder that TF Serving is pointed at; the model goes to `out/1`, or to the number
            after the highest there.
        class_names: in the order of the logits.
        image_size_px: side of the square picture that the model takes, in pixels.
        window: (low, high) in stored values for 16-bit grey PNG; None: the full range.
        max_pixels: height times width above which a picture is refused unread.
        answering: temperature, prevalence and threshold that the answers are told at.
        version: the number to write; None: the one after the highest there.
        facts: what the model card and the manifest tell of the run.

    Returns:
        The folder written, e.g. `out/1`: the SavedModel with the endpoints `serving_default`, `pixels`, `classify`,
        and where the model pools one feature map `features` and `explain` (see `kerastl.export.endpoints`), warm-up
        requests, `MODEL_CARD.md` and `manifest.json`. What stands in `out` beside it: `kerastl.export.serving.beside`.

    Raises:
        RequestError: the class names do not fit the model, `out` is not a folder, or holds that version.
        OSError: the disk is full; no half export is left.
    """
    _check_model(model, class_names, image_size_px)

    def fill(folder: Path) -> None:
        # In the graph the BatchNorms are folded; what it was made of is told by the plain model's fingerprint.
        served = Served(
            for_inference(model), tuple(class_names), image_size_px, window, max_pixels, answering
        )
        _write_graph(served, folder)
        write_inside(folder, facts, versions=made_with(), answering=answering, **told)

    told: dict[str, Any] = {
        "class_names": class_names, "image_size_px": image_size_px, "window": window,
        "max_pixels": max_pixels, "model_sha256": weights_fingerprint(model),
    }  # fmt: skip
    written = write_numbered(
        Path(out), fill, version=version, answering=answering.to_json(class_names),
        scores=facts.scores, training=facts.training, **told,
    )  # fmt: skip
    write_beside(written.parent, class_names=class_names, image_size_px=image_size_px)
    return written


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

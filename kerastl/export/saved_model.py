"""Write a model as a TensorFlow SavedModel that TF Serving runs as it lies."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl import __version__
from kerastl.data.decode import MAX_PIXELS
from kerastl.errors import RequestError, RunFailed
from kerastl.evaluation.trained_model import NO_POSTPROCESSING, Postprocessing
from kerastl.export.endpoints import Served, endpoints_of
from kerastl.export.graph_check import name_classify
from kerastl.export.manifest import write_manifest
from kerastl.export.model_card import NOTHING, Facts
from kerastl.export.serving_files import write_beside, write_inside
from kerastl.export.versions import check_free, next_number, refusal
from kerastl.models import for_inference


def write_numbered(
    out: Path, fill: Callable[[Path], None], *, version: int | None = None, **told: Any
) -> Path:
    """Write an export and its manifest; nothing is ever overwritten.

    Args:
        out: the folder of all numbers; it is made where it is not there.
        fill: writes everything but the manifest into a folder.
        version: the number to write; None: the one after the highest there.
        told: by the manifest, as in `write_manifest`, but for versions.

    Returns:
        The folder written, e.g. `out/1`.

    Raises:
        RequestError: `out` is not a folder, or holds that number already.
        OSError, RunFailed: the disk is full; no half export is left.
    """
    if out.exists() and not out.is_dir():
        raise RequestError(f"{out} is a file, but an export is a folder. Name another: --out DIR")
    check_free(out, next_number(out) if version is None else version)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise RequestError(
            f"{out} cannot be made a folder: a file or a link that leads nowhere is in its way. Name another: --out DIR"
        ) from error
    # Hidden and without a number as its name: a server that watches `out` does not see it.
    staged = Path(tempfile.mkdtemp(dir=out, prefix=".kerastl."))
    try:
        staged.chmod(0o755)
        fill(staged)
        write_manifest(staged, versions=made_with(), **told)
        return _rename(staged, out, version)
    except tf.errors.ResourceExhaustedError as error:
        shutil.rmtree(staged, ignore_errors=True)
        raise RunFailed(f"{out} cannot be written: the disk is full, or memory.") from error
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise


def made_with() -> dict[str, str]:
    """Return the versions of what makes an export."""
    return {"kerastl": __version__, "keras": keras.version(), "tensorflow": tf.version.VERSION}


def _rename(staged: Path, out: Path, version: int | None) -> Path:
    """Give a finished folder its number; return it."""
    number = version if version is not None else next_number(out)
    while True:
        target = out / str(number)
        try:
            # Renaming onto a folder that holds files fails: another export that took the number stays.
            return staged.rename(target)
        except OSError as error:
            if not target.exists():
                raise
            if version is not None:
                raise refusal(out, version) from error
            number += 1


def export_saved_model(
    model: keras.Model,
    out: Path | str,
    *,
    class_names: Sequence[str],
    image_size_px: int,
    window: tuple[float, float] | None = None,
    max_pixels: int = MAX_PIXELS,
    answering: Postprocessing = NO_POSTPROCESSING,
    version: int | None = None,
    facts: Facts = NOTHING,
) -> Path:
    """Write a model under a free number of a folder, and beside it what a server needs; no version is ever overwritten.

    Args:
        model: `[n, size, size, 3]` float32 in [0, 255] to logits `[n, classes]`; without augmentation.
        out: the folder that TF Serving is pointed at; the model goes to `out/1`, or to the number
            after the highest there.
        class_names: in the order of the logits.
        image_size_px: side of the square image that the model takes, in pixels.
        window: (low, high) in stored values for 16-bit grey PNG; None: the full range.
        max_pixels: height times width above which an image is refused unread.
        answering: temperature, prevalence and threshold that the answers are told at.
        version: the number to write; None: the one after the highest there.
        facts: what the model card and the manifest tell of the run.

    Returns:
        The folder written, e.g. `out/1`: the SavedModel with the endpoints `serving_default`, `pixels`, `classify`,
        and where the model pools one feature map `features` and `explain` (see `kerastl.export.endpoints`), warm-up
        requests, `MODEL_CARD.md` and `manifest.json`. What stands in `out` beside it: `kerastl.export.serving_files`.

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
            f"The model takes {model.input_shape}, not images of "
            f"{image_size_px} x {image_size_px} pixels in three colours."
        )


def _write_graph(served: Served, folder: Path) -> None:
    archive = keras.export.ExportArchive()
    archive.track(served.model)
    for name, (endpoint, takes) in endpoints_of(served).items():
        archive.add_endpoint(name, endpoint, input_signature=[takes])
    archive.write_out(str(folder), verbose=False)
    name_classify(folder)

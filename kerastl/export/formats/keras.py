"""A Keras file and a description of the model, for adaptation elsewhere without the training images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kerastl.errors import RequestError

if TYPE_CHECKING:
    from kerastl.evaluation.trained_model import Trained
    from kerastl.export.postprocess import Postprocessing


FILES = ("model.json", "manifest.json")
"""A run folder has no manifest."""


def write(trained: Trained, out: Path, *, postprocessing: Postprocessing, version: int | None = None) -> Path:
    """Write `model.keras`, `model.json` and `manifest.json` as a new version, and return its folder.

    They hold weights, class names, size and window of the images, backbone and dropout, the share of each
    class in training, and temperature and thresholds of validation, but no path, group or image of the data.
    The model returns logits. `model.json` holds the temperature of `postprocessing`, which `kerastl predict`
    applies; prevalence and threshold do not apply.

    Raises:
        RequestError: A file of the run folder is missing, `out` is not a folder, or has that version.
        OSError, RunFailed: The disk is full; no partial export remains.
    """
    from kerastl.evaluation.trained_model import MODEL, read_source_model
    from kerastl.export.saved_model import model_fields, write_version

    if trained.folder is None:
        raise RequestError("The format keras needs the model of a run folder: load_trained(RUN).")
    description = read_source_model(trained.folder)

    def fill(folder: Path) -> None:
        # Saved, not copied: the file may hold more than the model.
        trained.model.save(folder / MODEL)
        description.model_copy(update={"temperature": postprocessing.temperature}).write(folder)

    return write_version(out, fill, version=version, **model_fields(trained))

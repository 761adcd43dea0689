"""A Keras file and a description of the model, for adaptation elsewhere without the training images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kerastl.errors import RequestError

if TYPE_CHECKING:
    from kerastl.evaluation.trained_model import Trained
    from kerastl.export.findings import Finding
    from kerastl.export.postprocess import Postprocessing


FILES = ("model.json", "manifest.json")
"""A run folder has no manifest."""


def write(trained: Trained, out: Path, *, postprocessing: Postprocessing, version: int | None = None) -> Path:
    """Write `model.keras`, `model.json` and `manifest.json` as a new version, and return its folder.

    They hold weights, class names, size and window of the images, backbone and dropout, the share of each
    class in training, and temperature and thresholds of validation, but no path, group or image of the data.
    The model returns logits, so that `postprocessing` does not apply.

    Raises:
        RequestError: A file of the run folder is missing, `out` is not a folder, or has that version.
        OSError: The disk is full; no partial export remains.
    """
    from kerastl.evaluation.trained_model import MODEL, read_source_model
    from kerastl.export.saved_model import model_fields, write_version

    del postprocessing
    if trained.folder is None:
        raise RequestError("The format keras needs the model of a run folder: load_trained(RUN).")
    description = read_source_model(trained.folder)

    def fill(folder: Path) -> None:
        # Saved, not copied: the file may hold more than the model.
        trained.model.save(folder / MODEL)
        description.write(folder)

    return write_version(out, fill, version=version, **model_fields(trained))


def verify_keras_export(folder: Path, run: Path | None) -> list[Finding]:
    """Check that the files of a Keras export are unchanged, and that its model loads and has the weights of the run.

    Args:
        folder: The folder that contains `manifest.json`.
        run: The run that was exported; None if unavailable.

    Raises:
        RequestError: `manifest.json` is damaged, or `run` is not a finished run.
    """
    from kerastl.evaluation.trained_model import load_trained, read_unverified_model
    from kerastl.export.findings import Finding
    from kerastl.export.manifest import read_manifest
    from kerastl.export.saved_model import weights_fingerprint
    from kerastl.export.verification import check_files

    manifest = read_manifest(folder)
    files = check_files(folder, manifest)
    try:
        weights = weights_fingerprint(load_trained(folder).model)
        read_unverified_model(folder)
    except RequestError as error:
        return [files, Finding("model", False, str(error))]
    is_same = weights == manifest.model_sha256
    detail = (
        "loads, and has the weights of the manifest" if is_same else "has other weights than the manifest"
    )
    findings = [files, Finding("model", is_same, detail)]
    if run is not None:
        is_same = weights == weights_fingerprint(load_trained(run).model)
        findings.append(Finding("run", is_same, f"{'same' if is_same else 'other'} weights as {run}"))
    return findings

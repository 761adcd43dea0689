"""Keras's own file and what one must know to go on with it: for another hospital that adapts the model without the images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kerastl.errors import RequestError
from kerastl.evaluation.trained_model import (
    DESCRIPTION,
    MODEL,
    Trained,
    load_trained,
    read_source_model,
    read_unverified_model,
)
from kerastl.export.findings import Finding
from kerastl.export.manifest import read_manifest
from kerastl.export.saved_model import weights_fingerprint, write_version
from kerastl.runs import compare_hashes, write_json

if TYPE_CHECKING:
    from kerastl.export.postprocess import Postprocessing


def write(trained: Trained, out: Path, *, postprocessing: Postprocessing, version: int | None = None) -> Path:
    """Export a trained model under `out`, as `version` or the next number, and return the folder written; it answers as learnt."""
    del postprocessing

    return export_keras(trained, out, version)


def export_keras(trained: Trained, out: Path, version: int | None = None) -> Path:
    """Write `model.keras`, `model.json` and `manifest.json` under a free number of a folder.

    They hold weights, class names, size and window of the images, backbone and dropout, the share of each class in training,
    temperature and thresholds of validation: no path, group or image of the data.

    Args:
        trained: of a run folder, whose other files tell what `model.json` there does not.
        out: the folder; nothing in it is overwritten.
        version: the number to write; None: the one after the highest there.

    Returns:
        The folder written, e.g. `out/1`.

    Raises:
        RequestError: the run folder does not say what its model is, `out` is not a folder, or holds that version.
        OSError: the disk is full; no half export is left.
    """
    if trained.folder is None:
        raise RequestError("Only the model of a run folder can be exported so: load_trained(RUN).")
    told = read_source_model(trained.folder).to_json()

    def fill(folder: Path) -> None:
        # Saved anew, not copied: whatever else lies in the file stays behind.
        trained.model.save(folder / MODEL)
        write_json(folder / DESCRIPTION, told)

    return write_version(
        out, fill, version=version, class_names=trained.class_names, image_size_px=trained.image_size_px,
        window=trained.window, max_pixels=trained.max_pixels,
        model_sha256=weights_fingerprint(trained.model),
    )  # fmt: skip


def verify_keras_export(folder: Path, run: Path | None) -> list[Finding]:
    """Check a portable folder: its files are those it was written with, and the model opens and is the run's.

    Args:
        folder: with `manifest.json`.
        run: the run that was exported; None: not at hand.

    Raises:
        RequestError: `manifest.json` is damaged, or `run` is no finished run.
    """
    manifest = read_manifest(folder)
    other = str(compare_hashes(folder, manifest.files))
    files = Finding("files", not other, other or f"{len(manifest.files)} as they were written")
    try:
        weights = weights_fingerprint(load_trained(folder).model)
        read_unverified_model(folder)
    except RequestError as error:
        return [files, Finding("model", False, str(error))]
    same = weights == manifest.model_sha256
    told = "opens, and has the weights of the manifest" if same else "has other weights"
    findings = [files, Finding("model", same, told)]
    if run is not None:
        same = weights == weights_fingerprint(load_trained(run).model)
        told = f"{'the same' if same else 'other'} weights as {run}"
        findings.append(Finding("run", same, told))
    return findings

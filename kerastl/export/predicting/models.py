"""The model that is asked: what is known of it before it is loaded, and how it is loaded. No TensorFlow at import."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from kerastl.errors import RequestError
from kerastl.evaluation.as_exported import check_as_exported
from kerastl.evaluation.source_model import find_model
from kerastl.evaluation.trained import DESCRIPTION, MODEL, load_trained, read_description
from kerastl.export.converted.find import find_converted
from kerastl.export.converted.read import read_converted
from kerastl.export.graph_file import GRAPH
from kerastl.export.manifest import read_manifest
from kerastl.export.predicting.answering import Predictor
from kerastl.export.read_export import find_export, read_export
from kerastl.runs import BEGUN, MANIFEST, hashes_of, sha256_of


@dataclass(frozen=True)
class AskedModel:
    """A model on disk.

    Args:
        folder: of the run, or the numbered one of the export.
        is_export: which of both.
        class_names: in the order of the probabilities.
    """

    folder: Path
    is_export: bool
    class_names: tuple[str, ...]

    def open(self) -> Predictor:
        """Load it, and TensorFlow.

        Raises:
            RequestError: it is damaged or unsafe.
        """
        if not self.is_export:
            return load_trained(self.folder)
        converted = find_converted(self.folder)
        return read_converted(converted) if converted is not None else read_export(self.folder)

    def fingerprint(self) -> str:
        """Return the sha256 over the files that its answers come from."""
        if self.is_export:
            found = hashes_of(self.folder) | {MANIFEST: sha256_of(self.folder / MANIFEST)}
        else:
            found = {name: sha256_of(self.folder / name) for name in (DESCRIPTION, MODEL)}
        told = "".join(f"{name}\0{digest}\n" for name, digest in sorted(found.items()))
        return hashlib.sha256(told.encode(errors="surrogateescape")).hexdigest()


def asked_model(path: Path) -> AskedModel:
    """Find the model that a path means: a run, a portable folder or an export, of which the highest number counts.

    Raises:
        RequestError: none of these, a run that is not finished, a damaged description, or a portable folder that was changed.
    """
    export = None if (path / DESCRIPTION).is_file() else find_export(path)
    if export is None and not (path / DESCRIPTION).is_file():
        converted = find_converted(path)
        export = None if converted is None else converted.folder
    if export is not None:
        return AskedModel(export, True, read_manifest(export).class_names)
    folder = find_model(path)
    if folder.is_dir() and not (folder / DESCRIPTION).is_file() and not (folder / BEGUN).is_file():
        raise RequestError(
            f"{path} is neither a run folder nor an export: it has no {DESCRIPTION} and no version with {GRAPH}."
        )
    check_as_exported(folder)
    described = read_description(folder)
    if not (folder / MODEL).is_file():
        raise RequestError(
            f"{folder} holds no {MODEL}: the run is not finished, or it was removed."
        )
    return AskedModel(folder, False, described.class_names)

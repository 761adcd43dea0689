"""`manifest.json` of an export: what it takes, what it was made with, and the hash of every file. No TensorFlow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kerastl.errors import RequestError, report_damage
from kerastl.evaluation.trained_model import NO_POSTPROCESSING, Postprocessing, description_of, read_postprocessing
from kerastl.runs import EXPORT_AGAIN, MANIFEST, hash_files, write_json


@dataclass(frozen=True)
class Manifest:
    """What an export says of itself. It holds no path, group or image of the data.

    Args:
        class_names: in the order of the probabilities.
        image_size_px: side of the square image that the model sees, in pixels.
        window: (low, high) in stored values for 16-bit grey images; None: the full range.
        max_pixels: height times width above which an image is refused.
        model_sha256: fingerprint of the model's weights, see `weights_fingerprint`.
        versions: of kerastl, keras and tensorflow.
        files: sha256 of every other file of the export, by its path within it.
        answering: what is done to the softmax of the logits, see `Postprocessing.to_json`.
        conversion: what a format that was converted tells of itself, see `write_converted`; None: it was not.
        scores: `{split: {metric: {value, low, high}}}` of the run's test splits; None: not known.
        training: what identifies the run: `recipe_sha256` (its paths left out), `seed`, `data_sha256`, `weights_sha256`;
            None: not known.
    """

    class_names: tuple[str, ...]
    image_size_px: int
    window: tuple[float, float] | None
    max_pixels: int
    model_sha256: str
    versions: dict[str, str]
    files: dict[str, str]
    answering: dict[str, Any] = field(default_factory=lambda: NO_POSTPROCESSING.to_json(()))
    conversion: dict[str, Any] | None = None
    scores: dict[str, Any] | None = None
    training: dict[str, Any] | None = None

    @property
    def how(self) -> Postprocessing:
        """What is done to the softmax of the logits."""
        return read_postprocessing(self.answering, self.class_names)


def write_manifest(
    folder: Path,
    *,
    class_names: Sequence[str],
    image_size_px: int,
    window: tuple[float, float] | None,
    max_pixels: int,
    model_sha256: str,
    versions: dict[str, str],
    answering: dict[str, Any] | None = None,
    conversion: dict[str, Any] | None = None,
    scores: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
) -> None:
    """Write the manifest of an export whose other files are all there."""
    manifest = Manifest(
        class_names=tuple(class_names),
        image_size_px=image_size_px,
        window=window,
        max_pixels=max_pixels,
        model_sha256=model_sha256,
        versions=versions,
        files=hash_files(folder),
        scores=scores,
        training=training,
        answering=answering or NO_POSTPROCESSING.to_json(()),
        conversion=conversion,
    )
    write_json(folder / MANIFEST, asdict(manifest))


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of an export.

    Raises:
        RequestError: there is none, or it is damaged.
    """
    file = folder / MANIFEST
    if not file.is_file():
        raise RequestError(f"{folder} is not an export of kerastl: it has no {MANIFEST}.")
    with report_damage(file, EXPORT_AGAIN):
        return _manifest(json.loads(file.read_text(encoding="utf-8")))


def _manifest(content: dict[str, Any]) -> Manifest:
    # The very keys and rules of a run's own description.
    described = description_of(content)
    names = described.class_names
    # Exports before there was a choice answered as learnt.
    how = read_postprocessing(content.get("answering"), names)
    return Manifest(
        class_names=names,
        image_size_px=described.image_size_px,
        window=described.window,
        max_pixels=described.max_pixels,
        model_sha256=str(content["model_sha256"]),
        versions={str(name): str(version) for name, version in content["versions"].items()},
        files={str(name): str(digest) for name, digest in content["files"].items()},
        scores=_told(content.get("scores")),
        training=_told(content.get("training")),
        answering=how.to_json(names),
        conversion=_told(content.get("conversion")),
    )


def _told(value: Any) -> dict[str, Any] | None:
    if value is not None and not isinstance(value, dict):
        raise ValueError("conversion, scores and training must be objects, or null")
    return value

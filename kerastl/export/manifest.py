"""`manifest.json` of an export: its input, its origin, and the hash of every file. No TensorFlow."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kerastl.errors import RequestError, report_damage
from kerastl.evaluation.trained_model import parse_description
from kerastl.export.postprocess import NO_POSTPROCESSING, Postprocessing
from kerastl.runs import EXPORT_AGAIN, MANIFEST, hash_files, write_json


@dataclass(frozen=True)
class Manifest:
    """The description of an export. It holds no path, group or image of the data.

    Args:
        class_names: in the order of the probabilities.
        image_size_px: side of the square image that the model sees, in pixels.
        window: (low, high) in stored values for 16-bit gray images; None for the full range.
        max_pixels: largest height times width of an image that is decoded.
        model_sha256: fingerprint of the model's weights, see `weights_fingerprint`.
        versions: of kerastl, keras and tensorflow.
        files: sha256 of every other file of the export, by its path within it.
        postprocessing: applied to the softmax of the logits.
        conversion: details of a converted format, see `write_converted`; None for other formats.
        scores: `{split: {metric: {value, low, high}}}` of the run's test splits; None if unavailable.
        training: identifies the run: `recipe_sha256` (without its paths), `seed`, `data_sha256`, `weights_sha256`; None if
            unavailable.
    """

    class_names: tuple[str, ...]
    image_size_px: int
    window: tuple[float, float] | None
    max_pixels: int
    model_sha256: str
    versions: dict[str, str]
    files: dict[str, str]
    postprocessing: Postprocessing = NO_POSTPROCESSING
    conversion: dict[str, Any] | None = None
    scores: dict[str, Any] | None = None
    training: dict[str, Any] | None = None

    @property
    def quantize(self) -> str | None:
        """How the model was quantized; None for float32."""
        return (self.conversion or {}).get("quantize")


def write_manifest(folder: Path, **fields: Any) -> None:
    """Write the manifest of an export that has all its other files.

    Args:
        folder: of the export.
        fields: of `Manifest`, without `files`.
    """
    manifest = Manifest(files=hash_files(folder), **fields)
    content = asdict(manifest) | {"postprocessing": manifest.postprocessing.to_json(manifest.class_names)}
    write_json(folder / MANIFEST, content)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of an export.

    Raises:
        RequestError: it is missing or damaged.
    """
    file = folder / MANIFEST
    if not file.is_file():
        raise RequestError(f"{folder} is not an export of kerastl: it has no {MANIFEST}.")
    with report_damage(file, EXPORT_AGAIN):
        content = json.loads(file.read_text(encoding="utf-8"))
        # The same keys and rules as in `model.json` of a run.
        description = parse_description(content)
        names = description.class_names
        return Manifest(
            class_names=names,
            image_size_px=description.image_size_px,
            window=description.window,
            max_pixels=description.max_pixels,
            model_sha256=str(content["model_sha256"]),
            versions={str(name): str(version) for name, version in content["versions"].items()},
            files={str(name): str(digest) for name, digest in content["files"].items()},
            postprocessing=Postprocessing.from_json(content["postprocessing"], names),
            conversion=_optional_object(content["conversion"]),
            scores=_optional_object(content["scores"]),
            training=_optional_object(content["training"]),
        )


def _optional_object(value: Any) -> dict[str, Any] | None:
    if value is not None and not isinstance(value, dict):
        raise ValueError("conversion, scores and training must be objects, or null")
    return value

"""`manifest.json` of an export: input, origin, and the hash of every file. TensorFlow is not imported."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerastl.errors import RequestError, report_damage
from kerastl.export.postprocess import NO_POSTPROCESSING, Postprocessing
from kerastl.image_size import Resize, Size
from kerastl.runs import EXPORT_AGAIN, hash_files
from kerastl.runs.schemas import ManifestFile, Metrics


@dataclass(frozen=True)
class Manifest:
    """The description of an export. It contains no paths, groups or images from the data.

    Args:
        class_names: Class names in the order of the probabilities.
        image_size_px: (height, width) of the input image in pixels.
        window: (low, high) in stored values for 16-bit gray images; None for the full range.
        max_pixels: Maximum height times width of an image that is decoded.
        model_sha256: Fingerprint of the model's weights, see `weights_fingerprint`.
        versions: Versions of kerastl, keras and tensorflow.
        files: sha256 of every other file of the export, by its path within it.
        postprocessing: The postprocessing that is applied to the logits.
        conversion: Details of a converted format, see `write_converted`; None for other formats.
        scores: `{split: {metric: {value, low, high}}}` of the run's test splits; None if unavailable.
        training: Identifiers of the run: `recipe_sha256` (without its paths), `seed`, `data_sha256`,
            `weights_sha256`; None if unavailable.
        variables_sha256: Fingerprint of the variables of a SavedModel, see `_probe.read_weights`; None for other
            formats. BatchNorm is folded in them, so it differs from `model_sha256`.
        model_name: Name of the model on a server; None for a format that no server runs.
        resize: How images with a different aspect ratio are resized.
    """

    class_names: tuple[str, ...]
    image_size_px: Size
    window: tuple[float, float] | None
    max_pixels: int
    model_sha256: str
    versions: dict[str, str]
    files: dict[str, str]
    postprocessing: Postprocessing = NO_POSTPROCESSING
    conversion: dict[str, Any] | None = None
    scores: dict[str, Metrics] | None = None
    training: dict[str, Any] | None = None
    variables_sha256: str | None = None
    model_name: str | None = None
    resize: Resize = "stretch"

    @property
    def quantize(self) -> str | None:
        """How the model was quantized; None for float32."""
        return (self.conversion or {}).get("quantize")

    @property
    def with_resize(self) -> bool:
        """Whether a converted model resizes the images itself."""
        return bool((self.conversion or {}).get("with_resize"))


def write_manifest(folder: Path, **fields: Any) -> None:
    """Write the manifest of an export, after all its other files.

    Args:
        folder: The folder of the export.
        fields: Fields of `Manifest`, without `files` and `variables_sha256`.
    """
    from kerastl.export._probe import read_weights

    weights = read_weights(folder)["sha256"] if (folder / "variables").is_dir() else None
    manifest = Manifest(files=hash_files(folder), variables_sha256=weights, **fields)
    postprocessing = manifest.postprocessing.to_json(manifest.class_names)
    ManifestFile(**vars(manifest) | {"postprocessing": postprocessing}).write(folder)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of an export.

    Raises:
        RequestError: It is missing or damaged.
    """
    if not (folder / ManifestFile.FILE).is_file():
        raise RequestError(
            f"{folder} is not an export of kerastl: it has no {ManifestFile.FILE}. {EXPORT_AGAIN}"
        )
    content = ManifestFile.read(folder, remedy=EXPORT_AGAIN)
    with report_damage(folder / ManifestFile.FILE, EXPORT_AGAIN):
        postprocessing = Postprocessing.from_json(content.postprocessing, content.class_names)
    return Manifest(**dict(content) | {"postprocessing": postprocessing})


def read_model_name(folder: Path) -> str | None:
    """Return the name of the model of an export on a server; None if it has none, or no readable manifest."""
    with suppress(RequestError, OSError):
        return read_manifest(folder).model_name
    return None

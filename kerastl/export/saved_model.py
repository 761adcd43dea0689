"""Write a model as a TensorFlow SavedModel for TensorFlow Serving."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import keras
import tensorflow as tf
from annotated_types import Ge

from kerastl import __version__
from kerastl.console import print_status
from kerastl.data.decode import MAX_PIXELS
from kerastl.data.records import check_class_list
from kerastl.errors import RequestError, RunFailed, out_option, raise_problems
from kerastl.evaluation.heatmaps import NO_HEATMAPS, heatmap_problem
from kerastl.evaluation.trained_model import Trained, weights_fingerprint
from kerastl.export.endpoints import ServedModel
from kerastl.export.graph_check import prepare_for_server
from kerastl.export.manifest import write_manifest
from kerastl.export.model_card import NO_FACTS, ModelFacts, write_card
from kerastl.export.postprocess import NO_POSTPROCESSING, Postprocessing
from kerastl.export.serving_files import write_serving_files, write_warm_up
from kerastl.export.versions import (
    check_version_free,
    check_writable,
    next_version,
    resolve_model_name,
    version_exists_error,
)
from kerastl.image_size import Resize, Size, as_size
from kerastl.models import check_classifier, fold_for_inference
from kerastl.options import checked
from kerastl.recipe import ModelName


def write_version(
    out: Path, fill: Callable[[Path], None], *, version: int | None = None, **fields: Any
) -> Path:
    """Write an export and its manifest as a new version; nothing is ever overwritten.

    Args:
        out: The folder of all versions; it is created if missing.
        fill: A function that writes everything except the manifest into a folder.
        version: The version to write; None for the one after the highest.
        fields: Fields of the manifest, without `files`, `versions` and `variables_sha256`.

    Returns:
        The version folder, e.g. `out/1`.

    Raises:
        RequestError: `out` is not a folder, or has that version.
        OSError, RunFailed: The disk is full; no partial export remains.
    """
    if out.exists() and not out.is_dir():
        raise RequestError(f"{out} is a file, but an export is a folder. Choose another: {out_option()}")
    check_version_free(out, next_version(out) if version is None else version)
    check_writable(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise RequestError(
            f"The folder {out} cannot be created: a file or a broken link has that path. Choose another: {out_option()}"
        ) from error
    # Hidden and not a number: a server that watches `out` ignores it. It is renamed, or removed after an error.
    with tempfile.TemporaryDirectory(dir=out, prefix=".kerastl.", ignore_cleanup_errors=True) as name:
        staged = Path(name)
        staged.chmod(0o755)
        try:
            fill(staged)
        except tf.errors.ResourceExhaustedError as error:
            raise RunFailed(f"{out} cannot be written: the disk or the memory is full.") from error
        write_manifest(staged, versions=library_versions(), **fields)
        return _rename(staged, out, version)


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that write an export."""
    return {"kerastl": __version__, "keras": keras.version(), "tensorflow": tf.version.VERSION}


def _rename(staged: Path, out: Path, version: int | None) -> Path:
    """Move a finished folder to its version number, and return it."""
    number = version if version is not None else next_version(out)
    while True:
        target = out / str(number)
        try:
            # Fails for a folder that holds files: a version that another process wrote meanwhile is kept.
            return staged.rename(target)
        except OSError as error:
            if not target.exists():
                raise
            if version is not None:
                raise version_exists_error(out, version) from error
            number += 1


@checked
def export_saved_model(
    model: keras.Model,
    out: Path | str,
    *,
    class_names: Sequence[str],
    image_size_px: int | Size,
    resize: Resize = "stretch",
    window: tuple[float, float] | None = None,
    max_pixels: int = MAX_PIXELS,
    postprocessing: Postprocessing = NO_POSTPROCESSING,
    version: Annotated[int, Ge(1)] | None = None,
    model_name: ModelName | None = None,
    facts: ModelFacts = NO_FACTS,
) -> Path:
    """Export a model for TensorFlow Serving as a new version; no version is ever overwritten.

    Args:
        model: `[n, height, width, 3]` float32 in [0, 255] to logits `[n, classes]`; without augmentation.
        out: The folder of all versions, the base path of TensorFlow Serving.
        class_names: Class names in the order of the logits.
        image_size_px: Side length of the input image, or (height, width), in pixels.
        resize: How images with a different aspect ratio are resized: `stretch`, `pad` or `crop`, as in `ImageDataset`.
        window: (low, high) in stored values for 16-bit gray PNG; None for the full range.
        max_pixels: Maximum height times width of an image that is decoded.
        postprocessing: Temperature, prevalence and threshold.
        version: The version to write; None for the one after the highest.
        model_name: Name of the model on the server: up to 63 lowercase letters, digits and `-`, the first a letter.
            None for that of the versions in `out`, or else `kerastl`.
        facts: Facts about the run, for the model card and the manifest.

    Returns:
        The version folder, e.g. `out/1`. It holds the SavedModel with the endpoints `serving_default`,
        `pixels`, `classify`, and, if the model pools one feature map or sequence of tokens, `features` and `explain`
        (see `kerastl.export.endpoints`; a message states why there is no `explain`), warm-up requests, `MODEL_CARD.md` and `manifest.json`. `out` also holds
        the files of `kerastl.export.serving_files`.

    Raises:
        Problems: The model does not return logits, or the class names or the image size are not those of the model.
        RequestError: `out` is not a folder, has that version, or has versions of a model with another name; or the name
            is not valid.
        OSError, RunFailed: The disk is full; no partial export remains.

    Example:
        >>> export_saved_model(model, "served", class_names=["cat", "dog"], image_size_px=160)
        PosixPath('served/1')
    """
    raise_problems("The export", check_class_list(class_names))
    names = tuple(class_names)
    size = as_size(image_size_px)
    network = check_classifier(model, class_names=names, image_size_px=size, is_probed=True)
    trained = Trained(names, size, window, max_pixels, network, resize=resize)
    name = resolve_model_name(Path(out), model_name)
    if problem := heatmap_problem(network):
        print_status(f"{NO_HEATMAPS}: {problem}.")
    return write_saved_model(trained, Path(out), postprocessing, version, facts, name)


def write_saved_model(
    trained: Trained,
    out: Path,
    postprocessing: Postprocessing,
    version: int | None,
    facts: ModelFacts,
    model_name: str,
) -> Path:
    """Write a trained model as `export_saved_model` does, and return the version folder."""
    description = model_fields(trained) | {"postprocessing": postprocessing}

    def fill(folder: Path) -> None:
        folded = replace(trained, model=fold_for_inference(trained.model))
        _write_graph(ServedModel(folded, postprocessing), folder)
        write_warm_up(
            folder, image_size_px=trained.image_size_px, max_pixels=trained.max_pixels, model_name=model_name
        )
        write_card(folder, facts, versions=library_versions(), **description)

    written = write_version(
        out, fill, version=version, scores=facts.scores, training=facts.training, model_name=model_name,
        **description,
    )  # fmt: skip
    write_serving_files(
        out, class_names=trained.class_names, image_size_px=trained.image_size_px, model_name=model_name
    )
    return written


def model_fields(trained: Trained) -> dict[str, Any]:
    """Return the fields of a manifest that describe the model of a run and its input."""
    return {
        "class_names": trained.class_names,
        "image_size_px": trained.image_size_px,
        "resize": trained.resize,
        "window": trained.window,
        "max_pixels": trained.max_pixels,
        "model_sha256": weights_fingerprint(trained.model),
    }


def _write_graph(served: ServedModel, folder: Path) -> None:
    """Write the endpoints and their variables."""
    # Not with `keras.export.ExportArchive`, which traces each endpoint twice.
    module = tf.Module()
    module.weights = [variable.value for variable in served.trained.model.variables]
    signatures = {
        name: tf.function(endpoint, input_signature=[spec], autograph=False)
        for name, (endpoint, spec) in served.endpoints().items()
    }
    tf.saved_model.save(module, str(folder), signatures=signatures)
    prepare_for_server(folder)

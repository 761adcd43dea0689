"""Export a finished run."""

from __future__ import annotations

from pathlib import Path

from kerastl import registry
from kerastl.errors import RequestError
from kerastl.evaluation.trained_model import Trained, load_trained
from kerastl.export.converted import write_converted
from kerastl.export.formats import EXPORT_FOLDER, PORTABLE, SAVED_MODEL, check_formats, find_export
from kerastl.export.manifest import read_manifest
from kerastl.export.postprocess import (
    NO_POSTPROCESSING,
    Postprocessing,
    PostprocessingOptions,
    resolve_postprocessing,
)
from kerastl.export.saved_model import model_fields
from kerastl.export.versions import check_version_free, resolve_model_name
from kerastl.runs import hash_files

DEFAULT_OPTIONS = PostprocessingOptions()


def export_run(
    run_folder: Path,
    format_name: str = SAVED_MODEL,
    out: Path | None = None,
    *,
    options: PostprocessingOptions = DEFAULT_OPTIONS,
    quantize: str | None = None,
    with_resize: bool = False,
    version: int | None = None,
    model_name: str | None = None,
) -> Path:
    """Export the model of a finished run in one format.

    Args:
        run_folder: The run folder, with `model.keras` and `model.json`.
        format_name: One of `kerastl.registry.names("format")`.
        out: The folder of all versions; None for `export/<format_name>` in the run folder.
        options: The requested postprocessing; parts that the run has no values for are omitted.
        quantize: `float16` or `int8`, if the format supports it; None for float32.
        with_resize: Whether a converted model (ONNX, LiteRT, OpenVINO) resizes the images itself.
        version: The version to write; None for the one after the highest.
        model_name: Name of the model on a server; None for that of the versions in `out`, or else `export.model_name`
            of the recipe. The format `keras` has none.

    Returns:
        The version folder.

    Raises:
        RequestError: Not a finished run, an unknown format, missing packages, an existing version, or an invalid name
            or another than that of the versions in `out`; nothing is written.

    Example:
        >>> export_run(Path("runs/mine"), "onnx")
        PosixPath('runs/mine/export/onnx/1')
    """
    module = registry.module("format", format_name)
    check_formats([format_name], quantize, with_resize)
    target = out if out is not None else run_folder / EXPORT_FOLDER / format_name
    if version is not None:
        check_version_free(target, version)
    named = (
        {"model_name": resolve_model_name(target, model_name, run_folder)} if format_name != PORTABLE else {}
    )
    check_formats([format_name], model_name=named.get("model_name", ""))
    trained = load_trained(run_folder)
    postprocessing, _ = resolve_postprocessing(run_folder, trained.class_names, options)
    if hasattr(module, "convert"):
        return write_converted(
            trained, target, format_name, postprocessing, version, quantize, with_resize, **named
        )
    return module.write(trained, target, postprocessing=postprocessing, version=version, **named)


def export_once(
    run_folder: Path,
    format_name: str = SAVED_MODEL,
    *,
    options: PostprocessingOptions = DEFAULT_OPTIONS,
    quantize: str | None = None,
    with_resize: bool = False,
) -> Path:
    """Export the model of a run in one format, unless a complete export of the same model exists.

    If a run is interrupted after its export and resumed, it must not add a second, identical version. An
    export that is incomplete, or of a different model, is kept, and the next version is written.

    Args:
        run_folder, format_name, options, quantize, with_resize: As in `export_run`.

    Returns:
        The version folder, existing or new.
    """
    out = run_folder / EXPORT_FOLDER / format_name
    existing, module = find_export(out), registry.module("format", format_name)
    if existing is not None:
        trained = load_trained(run_folder)
        postprocessing = NO_POSTPROCESSING
        if format_name != PORTABLE:
            postprocessing, _ = resolve_postprocessing(run_folder, trained.class_names, options)
        if _is_complete(existing.folder, trained, postprocessing, quantize, with_resize):
            if hasattr(module, "write_server_files"):
                # The run may have been interrupted before these files were written.
                resized = {"with_resize": True} if with_resize else {}
                module.write_server_files(out, trained, model_name=resolve_model_name(out), **resized)
            return existing.folder
    return export_run(run_folder, format_name, options=options, quantize=quantize, with_resize=with_resize)


def _is_complete(
    export: Path, trained: Trained, postprocessing: Postprocessing, quantize: str | None, with_resize: bool
) -> bool:
    """Return whether an export has all files of its manifest, unchanged, and is of this model with these options."""
    try:
        manifest = read_manifest(export)
    except RequestError:
        return False
    wanted = {
        "postprocessing": postprocessing,
        "quantize": quantize,
        "with_resize": with_resize,
        "files": hash_files(export),
    }
    return all(getattr(manifest, name) == value for name, value in (model_fields(trained) | wanted).items())

"""Export a finished run, and check what was exported, from the files of its folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kerastl import registry
from kerastl.errors import RequestError
from kerastl.evaluation.trained_model import Trained, load_trained
from kerastl.export.converted import check_formats, find_converted, verify_converted
from kerastl.export.findings import Finding
from kerastl.export.formats.keras import verify_keras_export
from kerastl.export.live_clients import Server
from kerastl.export.loaded_export import find_export, find_keras_export
from kerastl.export.manifest import read_manifest
from kerastl.export.postprocess import NO_POSTPROCESSING, PostprocessingOptions, resolve_postprocessing
from kerastl.export.probe_images import MOST_IMAGES, Question, question_for, run_around
from kerastl.export.serving_files import write_serving_files
from kerastl.export.verification import verify
from kerastl.export.versions import check_keep, check_version_free, prune
from kerastl.runs import hash_files


@dataclass(frozen=True)
class Checked:
    """What became of a check.

    Args:
        folder: the numbered folder that was checked.
        findings: one for each check.
        num_images: it was asked about.
        problems: of images that were named and left out, one line each.
    """

    folder: Path
    findings: tuple[Finding, ...]
    num_images: int = 0
    problems: tuple[str, ...] = ()


def check_export(
    path: Path,
    *,
    images: Sequence[Path] = (),
    run: Path | None = None,
    server: Server | None = None,
    limit: int = MOST_IMAGES,
) -> Checked:
    """Check the files and the answers of an export.

    Args:
        path: the export, or a folder of numbered ones, of which the highest counts.
        images: files and folders; none: test images of the run, or else the export's own samples.
        run: that was exported; None: the run folder that it lies in, if it does.
        server: a running TF Serving to ask as well; the images are sent to it.
        limit: images, at most.

    Raises:
        RequestError: it is no export, there are no images, the runtime is not installed, or a server is to run what it cannot.
    """
    served, converted = find_export(path), find_converted(path)
    found = served or (converted.folder if converted else find_keras_export(path))
    if found is None:
        raise RequestError(
            f"{path} is not an export: it holds no saved_model.pb, and no file of another format."
        )
    if served is None and server is not None:
        raise RequestError(f"TensorFlow Serving does not run {found}: leave out --url and --rest-url.")
    run = run or run_around(found)
    if served is None and converted is None:
        # No server runs it: the files and the weights are what there is to check.
        return Checked(found, tuple(verify_keras_export(found, run)))
    asked: Question = question_for(found, images=images, run=run, limit=limit)
    if served is not None:
        findings = verify(served, encoded=asked.encoded, expected=asked.expected, server=server)
    else:
        assert converted is not None
        findings = verify_converted(converted, images=asked.encoded, expected=asked.expected)
    return Checked(found, tuple(findings), len(asked.encoded), asked.problems)


EXPORTS = "export"
AS_USUAL = PostprocessingOptions()


def export_run(
    run_folder: Path,
    format_name: str = "saved_model",
    out: Path | None = None,
    *,
    asked: PostprocessingOptions = AS_USUAL,
    quantize: str | None = None,
    version: int | None = None,
    keep: int | None = None,
) -> Path:
    """Write the model of a run in one format.

    Args:
        run_folder: it must hold `model.keras` and `model.json`.
        format_name: one of `kerastl.registry.names("format")`.
        out: None: `export/<format_name>` in the run folder.
        asked: how it shall answer; what the run cannot give is left out.
        quantize: `float16` or `int8`, of a format that offers it; None: float32.
        version: the number to write; None: the one after the highest there.
        keep: how many versions remain, the new one among them, see `prune`; None: all.

    Returns:
        The new numbered folder.

    Raises:
        RequestError: not a run folder, an unfinished one, no such format, its packages are missing, a version that is there already, or a `keep`
            below 1; nothing is written.
    """
    module = registry.module("format", format_name)
    check_formats([format_name], quantize)
    target = out if out is not None else run_folder / EXPORTS / format_name
    if version is not None:
        check_version_free(target, version)
    if keep is not None:
        check_keep(keep)
    trained = load_trained(run_folder)
    postprocessing, _ = resolve_postprocessing(run_folder, trained.class_names, asked)
    more = {} if quantize is None else {"quantize": quantize}
    written: Path = module.write(trained, target, postprocessing=postprocessing, version=version, **more)
    if keep is not None:
        prune(written, keep)
    return written


def export_once(
    run_folder: Path,
    format_name: str = "saved_model",
    *,
    asked: PostprocessingOptions = AS_USUAL,
    quantize: str | None = None,
) -> Path:
    """Write the model of a run in one format, unless an export of this very model is whole already.

    A run that was killed after its export and is gone on with must not put a second, equal version before
    a server. An export that is not whole, or of another model, stays, and the next number is written.

    Args:
        run_folder, format_name, asked, quantize: as in `export_run`.

    Returns:
        The numbered folder, found or written.
    """
    written = run_folder / EXPORTS / format_name
    converted = find_converted(written)
    found = converted.folder if converted else find_export(written) or find_keras_export(written)
    if found is not None and _is_whole(found, trained := load_trained(run_folder), asked, quantize):
        if found == find_export(written):
            # A run that was killed may have left the version without what stands beside it.
            write_serving_files(written, class_names=trained.class_names, image_size_px=trained.image_size_px)
        return found
    return export_run(run_folder, format_name, asked=asked, quantize=quantize)


def _is_whole(export: Path, trained: Trained, asked: PostprocessingOptions, quantize: str | None) -> bool:
    """Tell whether an export holds every file its manifest names, to the byte, and answers for this model as it is asked to."""
    from kerastl.export.saved_model import weights_fingerprint

    try:
        manifest = read_manifest(export)
    except RequestError:
        return False
    described = (manifest.class_names, manifest.image_size_px, manifest.window, manifest.max_pixels)
    wanted = (trained.class_names, trained.image_size_px, trained.window, trained.max_pixels)
    how = NO_POSTPROCESSING
    serves = find_export(export) is not None or find_converted(export) is not None
    if serves and trained.folder is not None:
        how, _ = resolve_postprocessing(trained.folder, trained.class_names, asked)
    return (
        described == wanted
        and manifest.how == how
        and manifest.model_sha256 == weights_fingerprint(trained.model)
        and manifest.files == hash_files(export)
        and (manifest.conversion or {}).get("quantize") == quantize
    )


def verify_run(run_folder: Path, format_name: str = "saved_model", limit: int = MOST_IMAGES) -> list[Finding]:
    """Check the newest export in a run folder on the run's own test images.

    Raises:
        RequestError: there is no export, or no test image can be opened.
    """
    written = run_folder / EXPORTS / format_name
    if not written.is_dir():
        raise RequestError(f"{run_folder} holds no export: kerastl export {run_folder}")
    return list(check_export(written, run=run_folder, limit=limit).findings)

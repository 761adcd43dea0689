"""Verify an export: its files, its graph and signatures, and its predictions in a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kerastl import __version__
from kerastl.console import load_tensorflow, status
from kerastl.errors import RequestError, shell_command
from kerastl.evaluation.trained_model import load_trained, read_unverified_model, weights_fingerprint
from kerastl.export._probe import QUICK, VARIANTS
from kerastl.export.findings import (
    CLIENT_FILES,
    ENDPOINTS,
    EQUAL,
    FILES,
    FRESH_PROCESS,
    MAX_DIFFERENCE,
    PIXELS,
    SETTINGS,
    ExpectedPredictions,
    Finding,
    Floats,
    as_floats,
    check_outputs,
    check_size,
    check_weights,
    explain,
    largest_difference,
)
from kerastl.export.formats import (
    PORTABLE,
    SAVED_MODEL,
    ExportFolder,
    check_formats,
    find_export,
    find_verifiable,
)
from kerastl.export.graph_check import check_endpoints, graph_findings, is_safe_to_load
from kerastl.export.live_clients import TF_SERVING, Server
from kerastl.export.manifest import Manifest, read_manifest
from kerastl.export.probe_images import MAX_IMAGES, ProbeSet, find_enclosing_run, load_probe_set
from kerastl.export.versions import list_versions
from kerastl.runs import EXPORT_AGAIN, MANIFEST, compare_hashes

TIME_LIMIT_S = 1200
QUICK_IMAGES = 8
MAX_DECODED_PIXELS = 50_000_000
"""Maximum number of pixels that a model with its own resize receives in all, unless the first image is larger."""
PROBE = Path(__file__).with_name("_probe.py")
RunProbe = Callable[[Sequence[Any], Any], tuple[Any, str]]


@dataclass(frozen=True)
class VerificationResult:
    """The result of `check_export`.

    Args:
        folder: The version folder that was checked.
        findings: One finding per check.
        num_images: Number of images on which it was verified.
        problems: `file: reason` for each image that was ignored.
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
    limit: int = MAX_IMAGES,
    quick: bool = False,
) -> VerificationResult:
    """Verify the files and the predictions of an export.

    Args:
        path: The export, or a folder of versions, of which the highest is verified.
        images: Files and folders; if empty, test images of the run, or else the samples of the export.
        run: The run that was exported; None for the run folder that contains the export, if there is one.
        server: A running server to check as well; the images are sent to it.
        limit: Maximum number of images.
        quick: Use at most 8 images, only the endpoints `serving_default` and `pixels`, and only one warm-up
            request of each; the others are checked and not run.

    Raises:
        RequestError: It is not an export, there are no images, its runtime is not installed, or the server does not
            support its format.
    """
    if damaged := _newest_without_model(path):
        return VerificationResult(damaged, (check_files(damaged, read_manifest(damaged)),))
    export = find_verifiable(path)
    folder = export.folder
    if server is not None and export.format_name == PORTABLE:
        raise RequestError(
            f"No server runs {folder}, which has the format {PORTABLE}. Omit --url and --rest-url."
        )
    if server is not None and server.protocol == TF_SERVING and export.format_name != SAVED_MODEL:
        raise RequestError(f"TensorFlow Serving cannot serve {folder}. Omit --protocol {TF_SERVING}.")
    try:
        read_manifest(folder)
    except RequestError as error:
        return VerificationResult(folder, (Finding("manifest", False, str(error)),))
    run = run or find_enclosing_run(folder)
    if export.format_name == PORTABLE:
        # No server runs a Keras file: only its files and weights are checked.
        load_tensorflow()
        return VerificationResult(folder, tuple(verify_keras_export(folder, run)))
    limit = min(limit, QUICK_IMAGES) if quick else limit
    with _started_probe(folder, _plugin_of(export), QUICK if quick else "") as run_probe:
        load_tensorflow()  # in parallel with the import in the process
        try:
            probes = load_probe_set(folder, images=images, run=run, limit=limit)
        except RequestError as error:
            if images or run is not None:
                raise
            return VerificationResult(folder, (Finding("samples", False, str(error)),))
        findings = _verify_on(folder, probes, server, run_probe)
    return VerificationResult(folder, tuple(findings), len(probes.encoded), probes.problems)


def _newest_without_model(path: Path) -> Path | None:
    """Return the export in `path`, or else its highest version, if it has a manifest but no model; otherwise None."""
    versions = list_versions(path)
    for folder in (path, *sorted(versions, key=versions.__getitem__, reverse=True)):
        export = find_export(folder)
        if export is not None and export.folder == folder:
            return None
        if (folder / MANIFEST).is_file():
            return folder
    return None


def _verify_on(folder: Path, probes: ProbeSet, server: Server | None, run_probe: RunProbe) -> list[Finding]:
    if not probes.encoded:
        skipped = "".join(f"\n  Ignored: {problem}" for problem in probes.problems[:5])
        raise RequestError(
            f"There are no images to verify {folder} on. Add images, and the run that was exported: "
            f"{shell_command('kerastl', 'verify', folder)} --run RUN IMAGES...{skipped}"
        )
    return verify(
        folder, encoded=probes.encoded, expected=probes.expected, server=server, run_probe=run_probe
    )


def _plugin_of(export: ExportFolder) -> str | None:
    return str(export.module.__file__) if export.is_converted else None


@contextmanager
def _started_probe(export: Path, plugin: str | None, mode: str = "") -> Generator[RunProbe, None, None]:
    """Start the fresh process, which imports TensorFlow for a SavedModel, and yield the function that sends it the images.

    Until then, the process reads nothing of the export. The function takes the files and images of `_probe_inputs`, or
    no files and variants of the images. It returns the outputs of the export, or None and what went wrong.

    Args:
        export: The version folder.
        plugin: The file of the format of a converted model; None for a SavedModel.
        mode: `QUICK`, or `VARIANTS` for probabilities of variants of the decoded images; empty for all outputs.
    """
    with tempfile.TemporaryDirectory(prefix="kerastl.") as name:
        inputs_file, response_file = Path(name, "inputs.npz"), Path(name, "response.json")
        arguments = (PROBE, export.resolve(), plugin or "", inputs_file, response_file, mode)
        # -I: neither the working directory nor PYTHONPATH can add code to the fresh process.
        command = [sys.executable, "-I", *map(str, arguments)]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
        pipe, null = subprocess.PIPE, subprocess.DEVNULL
        process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=null, stderr=pipe)

        def run(files: Sequence[Any], images: Any) -> tuple[Any, str]:
            np.savez(inputs_file, images, *files)
            try:
                with status("Verifying the export in a separate process", prints_line=False):
                    _, errors = process.communicate(b"run\n", timeout=TIME_LIMIT_S)
            except subprocess.TimeoutExpired:
                return None, f"it took more than {TIME_LIMIT_S} seconds"
            if not response_file.is_file():
                # A crash in native code leaves no exception, only an exit status and what it wrote.
                tail = errors.decode(errors="replace").strip()[-500:]
                return None, f"the process exited with code {process.returncode}: {tail}"
            response = json.loads(response_file.read_text(encoding="utf-8"))
            outputs = response["outputs"]
            if isinstance(outputs, dict):
                outputs["memory_bytes"] = response["memory_bytes"]
            return outputs, " ".join((response["error"] or "").split())[:600]

        try:
            yield run
        finally:
            with process:
                process.kill()


def _probe_inputs(
    encoded: Sequence[bytes], manifest: Manifest, *, is_converted: bool
) -> tuple[list[Any], Any]:
    """Return what the fresh process needs besides decoded images, and the decoded images, as the manifest states.

    A SavedModel receives the files as well, and a model with its own resize some images in their own sizes.
    """
    from kerastl.data.decode import decode_images

    files: list[Any] = []
    if manifest.with_resize:
        files = _decode_some(encoded, manifest)
    elif not is_converted:
        files = [np.frombuffer(content, np.uint8) for content in encoded]
    return files, decode_images(
        encoded, manifest.image_size_px, manifest.resize, manifest.window, manifest.max_pixels
    )


def _decode_some(encoded: Sequence[bytes], manifest: Manifest) -> list[Any]:
    """Return the first images in their own sizes, `[height, width, 3]` float32 in [0, 255]."""
    from kerastl.data.decode import decode_image

    decoded: list[Any] = []
    for content in encoded[:QUICK_IMAGES]:
        image = decode_image(content, window=manifest.window, max_pixels=manifest.max_pixels).numpy()
        if decoded and sum(earlier.size for earlier in (*decoded, image)) > 3 * MAX_DECODED_PIXELS:
            break
        decoded.append(image)
    return decoded


def verify(
    export: Path,
    *,
    encoded: Sequence[bytes],
    expected: ExpectedPredictions | None,
    server: Server | None = None,
    run_probe: RunProbe | None = None,
) -> list[Finding]:
    """Check a SavedModel or a converted model on real images.

    The graph of a SavedModel is checked before it is loaded. With Python, random, file, network, unknown or
    XLA-compiled operations it is not loaded; its outputs are then not checked.

    Args:
        export: The version folder.
        encoded: Whole image files that can be decoded; at least two with different predictions.
        expected: The predictions of the run's own model; None if unavailable.
        server: A running server to check as well; None if there is none. The images are sent to it.
        run_probe: Runs the export in a fresh process that was started before; None to start one.

    Returns:
        One finding for each check, in a fixed order; `passed` is None if the check was not made, or failed for the
        same reason as the check that is its `cause`.

    Raises:
        RequestError: Not an export of kerastl, no image, or its runtime is not installed.
    """
    manifest, model = read_manifest(export), find_export(export)
    if model is None:
        raise RequestError(f"{export} contains no model. Export the run again.")
    if not encoded:
        raise RequestError("No images to verify the export on.")
    findings = [check_files(export, manifest)]
    if expected is not None and expected.settings:
        findings.append(_check_settings(manifest, expected.settings))
    if model.is_converted:
        check_formats([model.format_name])
        findings.append(_check_client_files(model, manifest))
    plugin = _plugin_of(model)
    static = [] if model.is_converted else [*check_endpoints(export), *graph_findings(export)]
    findings += static
    outputs = None
    if not is_safe_to_load(static):
        reason = "not started, because the check of the graph found a fault"
        findings.append(Finding(FRESH_PROCESS, None, reason))
    else:
        files, images = _probe_inputs(encoded, manifest, is_converted=model.is_converted)
        with ExitStack() as stack:
            run = run_probe or stack.enter_context(_started_probe(export, plugin))
            outputs, error = run(files, images)
        others = "TensorFlow, Keras and kerastl" if plugin else "Keras and kerastl"
        detail = f"it failed: {error}" if error else f"it runs without {others}"
        findings.append(Finding(FRESH_PROCESS, not error, detail))
    if any(finding.check == ENDPOINTS and not finding.ok for finding in static):
        outputs = None
    findings.append(check_weights(outputs, manifest, expected))
    if outputs is not None:
        findings += check_outputs(outputs, manifest, expected)
        num_bytes = sum(file.stat().st_size for file in export.rglob("*") if file.is_file())
        findings.append(check_size(num_bytes, outputs))
        variants = partial(_predict_variants, export, plugin, encoded, images, manifest)
        findings = [_describe_pixels(finding, outputs, expected, variants) for finding in explain(findings)]
    if server is not None:
        from kerastl.export.live import check_live, reference_predictions

        sent = list(images) if model.is_converted else encoded
        reference = reference_predictions(outputs, expected)
        findings += check_live(server, export, manifest, images=sent, reference=reference)
    return explain(findings)


def _describe_pixels(
    finding: Finding,
    outputs: dict[str, Any],
    expected: ExpectedPredictions | None,
    predict_variants: Callable[[], dict[str, Floats]],
) -> Finding:
    """Add the fault of decoding that explains a failed comparison, if one of `pixel_variants` does."""
    if (
        finding.ok
        or finding.check not in (PIXELS, EQUAL)
        or (finding.check == EQUAL and ": " in finding.detail)
    ):
        return finding
    wanted = as_floats(outputs["batch"][0]["probabilities"])
    if finding.check == EQUAL:
        assert expected is not None
        wanted = expected.probabilities
    for name, rows in predict_variants().items():
        if largest_difference(rows, wanted[:QUICK_IMAGES]) <= MAX_DIFFERENCE:
            return replace(finding, detail=f"{finding.detail}: {name}")
    return finding


def _predict_variants(
    export: Path, plugin: str | None, encoded: Sequence[bytes], images: Any, manifest: Manifest
) -> dict[str, Floats]:
    """Return the probabilities of an export for `pixel_variants` of the first images; empty if it fails."""
    from kerastl.export.pixel_variants import pixel_variants

    few = slice(QUICK_IMAGES)
    variants = pixel_variants(encoded[few], images[few], manifest)
    with _started_probe(export, plugin, VARIANTS) as run:
        served, _ = run((), np.stack(list(variants.values())))
    return dict(zip(variants, map(as_floats, served or ()), strict=False))


def verify_keras_export(folder: Path, run: Path | None) -> list[Finding]:
    """Check that the files of a Keras export are unchanged, and that its model loads and has the weights of the run.

    Args:
        folder: The folder that contains `manifest.json`.
        run: The run that was exported; None if unavailable.

    Raises:
        RequestError: `manifest.json` is damaged, or `run` is not a finished run.
    """
    manifest = read_manifest(folder)
    files = check_files(folder, manifest)
    try:
        weights = weights_fingerprint(load_trained(folder).model)
        read_unverified_model(folder)
    except RequestError as error:
        return [files, Finding("model", False, str(error))]
    is_same = weights == manifest.model_sha256
    detail = (
        "loads, and its weights match the manifest" if is_same else "its weights do not match the manifest"
    )
    findings = [files, Finding("model", is_same, detail)]
    if run is not None:
        is_same = weights == weights_fingerprint(load_trained(run).model)
        findings.append(
            Finding("run", is_same, f"weights {'equal' if is_same else 'differ from'} those of {run}")
        )
    return findings


def check_files(export: Path, manifest: Manifest) -> Finding:
    """Compare the files of an export with the hashes of its manifest."""
    faults = compare_hashes(export, manifest.files)
    passed = f"{len(manifest.files)} files match their sha256 in the manifest"
    return Finding(FILES, not faults, faults or passed)


def _check_client_files(export: ExportFolder, manifest: Manifest) -> Finding:
    """Compare the files that are used without kerastl with those that the manifest implies. Their hashes may be edited too."""
    from kerastl.export.client_files import derived_files

    if manifest.versions.get("kerastl") != __version__:
        return Finding(CLIENT_FILES, None, "not compared, because another version of kerastl wrote them")
    try:
        contents = derived_files(manifest, export.module, manifest.conversion or {})
    except KeyError as error:
        return Finding(CLIENT_FILES, False, f"the manifest lacks the conversion key {error}. {EXPORT_AGAIN}")
    changed = [
        name
        for name, content in contents.items()
        if not (export.folder / name).is_file() or (export.folder / name).read_bytes() != content
    ]
    detail = f"{', '.join(changed)}: not what the manifest states. {EXPORT_AGAIN}"
    return Finding(CLIENT_FILES, not changed, detail if changed else f"{', '.join(contents)} are as exported")


def _check_settings(manifest: Manifest, settings: dict[str, Any]) -> Finding:
    """Compare fields of a manifest with those of the run, without class names and weights, which have checks of their own."""
    names = [name for name in settings if name not in ("class_names", "model_sha256")]
    faults = [
        f"{name} is {getattr(manifest, name)} in the export and {settings[name]} in the run"
        for name in names
        if getattr(manifest, name) != settings[name]
    ]
    passed = f"{', '.join(names)} equal those of the run"
    return Finding(SETTINGS, not faults, "; ".join(faults) or passed)

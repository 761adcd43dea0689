"""Verify a SavedModel: its files, graph and signatures, and its predictions in a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerastl.data.decode import decode_images
from kerastl.errors import RequestError
from kerastl.export.findings import (
    MAX_DIFFERENCE,
    ExpectedPredictions,
    Finding,
    Floats,
    as_floats,
    check_outputs,
    graph_findings,
    largest_difference,
)
from kerastl.export.graph_check import ENDPOINTS, check_endpoints, graph_faults, reasons_not_to_load
from kerastl.export.live import check_live, reference_predictions
from kerastl.export.live_clients import Server
from kerastl.export.manifest import Manifest, read_manifest
from kerastl.runs import compare_hashes


def check_extra_outputs(outputs: dict[str, Any]) -> list[Finding]:
    """Check the outputs `top_classes`, `classify`, `features` and `explain`; those that an export lacks have no finding.

    Args:
        outputs: from the probe; the three results of each endpoint are under `extra`.
    """
    first = outputs["batch"][0]
    extra = outputs["extra"]
    rows = as_floats(first["probabilities"])
    findings = []
    if "top_classes" in first:
        findings.append(_check_ranking("top classes", rows, first, first["top_classes"], first["top_scores"]))
    if "classify" in extra:
        classify = extra["classify"][0]
        findings.append(_check_ranking("classify", rows, first, classify["classes"], classify["scores"]))
    if "features" in extra:
        findings.append(_check_features(as_floats(extra["features"][0]["features"]), rows))
    if "explain" in extra:
        findings.append(_check_explain(extra["explain"][0], first["predicted"]))
    for name, repeats in extra.items():
        # As text: NaN in the same place is the same output.
        if len({json.dumps(output) for output in repeats}) > 1:
            findings.append(Finding(f"{name} repeated", False, "the outputs change from call to call"))
    return findings


def _check_ranking(
    check: str, rows: Floats, first: dict[str, Any], classes: list[list[str]], scores: Any
) -> Finding:
    """Check classes in descending order of their scores against the probabilities."""
    ranked = as_floats(scores)
    best = -np.sort(-rows, axis=1)[:, : ranked.shape[1]]
    scores_match = all(
        abs(dict(zip(names, row, strict=True)).get(name, np.inf) - score) <= MAX_DIFFERENCE
        for names, row, row_classes, row_scores in zip(
            first["class_names"], rows, classes, ranked, strict=True
        )
        for name, score in zip(row_classes, row_scores, strict=True)
    )
    if scores_match and largest_difference(best, ranked) <= MAX_DIFFERENCE:
        return Finding(check, True, "the probabilities of serving_default in descending order")
    return Finding(check, False, "classes or scores differ from the probabilities of serving_default")


def _check_features(features: Floats, rows: Floats) -> Finding:
    check = "features"
    if not np.isfinite(features).all():
        return Finding(check, False, "not finite")
    if np.ptp(rows, axis=0).max() > MAX_DIFFERENCE and not np.ptp(features, axis=0).max() > 0:
        return Finding(check, False, "images with different predictions have the same features")
    return Finding(check, True, f"{features.shape[1]} features per image")


def _check_explain(output: dict[str, Any], predicted: list[str]) -> Finding:
    check, heatmap = "explain", as_floats(output["heatmap"])
    if output["predicted"] != predicted:
        return Finding(check, False, "explains another class than serving_default predicts")
    if not (np.isfinite(heatmap).all() and heatmap.min() >= 0 and heatmap.max() <= 1):
        return Finding(check, False, "a heatmap has values outside [0, 1]")
    return Finding(check, True, f"heatmaps of {heatmap.shape[1]} x {heatmap.shape[2]}, in [0, 1]")


TIME_LIMIT_S = 1200


def run_probe(
    script: Path, request: dict[str, Any], *, images: Any, encoded: Sequence[bytes] = ()
) -> dict[str, Any]:
    """Run `python -I SCRIPT REQUEST.json RESPONSE.json` in a fresh process and return the response.

    Args:
        script: imports nothing of this package.
        request: its request; the paths of `encoded` and `images` are added.
        images: an array for `numpy.load`.
        encoded: whole image files.

    Returns:
        `{"outputs", "error"}`, one of which is None.
    """
    with tempfile.TemporaryDirectory(prefix="kerastl.") as name:
        folder = Path(name)
        files = [folder / f"{index}.image" for index in range(len(encoded))]
        for file, image in zip(files, encoded, strict=True):
            file.write_bytes(image)
        np.save(folder / "images.npy", images)
        paths = {"encoded": [str(file) for file in files], "images": str(folder / "images.npy")}
        request_file, response_file = folder / "request.json", folder / "response.json"
        request_file.write_text(json.dumps(request | paths), encoding="utf-8")
        # -I: neither the working directory nor PYTHONPATH can add code to the fresh process.
        command = [sys.executable, "-I", str(script), str(request_file), str(response_file)]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
        try:
            process = subprocess.run(
                command, env=environment, capture_output=True, check=False, timeout=TIME_LIMIT_S
            )
        except subprocess.TimeoutExpired:
            return {"outputs": None, "error": f"it took more than {TIME_LIMIT_S} seconds"}
        if not response_file.is_file():
            # A crash in native code leaves no exception, only an exit status and what it wrote.
            tail = process.stderr.decode(errors="replace").strip()[-500:]
            return {"outputs": None, "error": f"the process ended with {process.returncode}: {tail}"}
        content: dict[str, Any] = json.loads(response_file.read_text(encoding="utf-8"))
        return content


PROBE = Path(__file__).with_name("_probe.py")
FRESH_PROCESS = "fresh process"


def verify(
    export: Path,
    *,
    encoded: Sequence[bytes],
    expected: ExpectedPredictions | None,
    server: Server | None = None,
) -> list[Finding]:
    """Check a SavedModel on real images.

    The graph is checked before it is loaded. An export with Python, random, file, network, unknown or XLA-compiled
    operations is not loaded; its outputs are then not checked.

    Args:
        export: the numbered folder that holds `saved_model.pb`.
        encoded: whole image files that can be decoded; at least two with different predictions.
        expected: the predictions of the run's own model; None if unavailable.
        server: a running TensorFlow Serving to check as well; None if there is none. The images are sent to it.

    Returns:
        One finding for each check, in a fixed order; `passed` is None if the check was not made.

    Raises:
        RequestError: not an export of kerastl, or there is no image.
    """
    manifest = read_manifest(export)
    if not encoded:
        raise RequestError("No images to verify the export on.")
    findings = [check_files(export, manifest)]
    if expected is not None and expected.settings:
        findings.append(check_settings(manifest, expected.settings))
    signatures = check_endpoints(export)
    findings += signatures
    try:
        faults = graph_faults(export)
    except (OSError, ValueError):
        faults = None
    findings += graph_findings(faults)
    outputs = None
    if faults is None or reasons_not_to_load(faults):
        reason = "not started, because the check of the graph found a fault"
        findings.append(Finding(FRESH_PROCESS, None, reason))
    else:
        images = decode_images(encoded, manifest.image_size_px, manifest.window, manifest.max_pixels)
        request = {"export": str(export.resolve())}
        response = run_probe(PROBE, request, images=images, encoded=encoded)
        findings.append(check_response(response, "a TensorFlow session runs it without kerastl and Keras"))
        if all(finding.ok for finding in signatures if finding.check == ENDPOINTS):
            outputs = response["outputs"]
    if outputs is not None:
        findings += check_outputs(outputs, manifest, expected)
        findings += check_extra_outputs(outputs)
    if server is not None:
        findings += check_live(
            server,
            export,
            images=encoded,
            image_size_px=manifest.image_size_px,
            reference=reference_predictions(outputs, expected),
        )
    return findings


def check_files(export: Path, manifest: Manifest) -> Finding:
    """Compare the files of an export with the hashes of its manifest."""
    faults = str(compare_hashes(export, manifest.files))
    passed = f"{len(manifest.files)} files match their sha256 in the manifest"
    return Finding("files", not faults, faults or passed)


def check_settings(manifest: Manifest, settings: dict[str, Any]) -> Finding:
    """Compare fields of a manifest with those of the run."""
    faults = [
        f"{name} is {getattr(manifest, name)} in the export and {value} in the run"
        for name, value in settings.items()
        if getattr(manifest, name) != value
    ]
    passed = f"{', '.join(settings)} equal those of the run"
    return Finding("settings", not faults, "; ".join(faults) or passed)


def check_response(response: dict[str, Any], passed: str) -> Finding:
    """Check that the fresh process returned outputs."""
    if response["error"] is not None:
        return Finding(FRESH_PROCESS, False, f"it failed: {response['error'][:600]}")
    return Finding(FRESH_PROCESS, True, passed)

"""Check an export in a fresh process: does it predict as kerastl does, every time, alone and in a batch?"""

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
import numpy.typing as npt

from kerastl.data.decode import decode_images
from kerastl.errors import RequestError
from kerastl.export.findings import SAME_ANSWER, Expected, Finding, graph_findings, judge_answers
from kerastl.export.graph_check import ENDPOINTS, check_contract, graph_faults, reasons_not_to_load
from kerastl.export.live import check_live, reference_of
from kerastl.export.live_clients import Server
from kerastl.export.manifest import Manifest, read_manifest
from kerastl.runs import compare_hashes

Floats = npt.NDArray[np.float32]


def judge_others(answers: dict[str, Any]) -> list[Finding]:
    """Check the outputs `top_classes`, `classify`, `features` and `explain`; those that an export lacks have no finding.

    Args:
        answers: from the probe; each endpoint's three answers are under `others`.
    """
    first = answers["batch"][0]
    repeated = answers.get("others", {})
    others = {name: repeats[0] for name, repeats in repeated.items()}
    rows = np.asarray(first["probabilities"], np.float32)
    findings = []
    if "top_classes" in first:
        findings.append(_judge_ranked("top classes", rows, first, first["top_classes"], first["top_scores"]))
    if "classify" in others:
        one = others["classify"]
        findings.append(_judge_ranked("classify", rows, first, one["classes"], one["scores"]))
    if "features" in others:
        findings.append(_judge_features(_floats(others["features"]["features"]), rows))
    if "explain" in others:
        findings.append(_judge_explain(others["explain"], first["predicted"]))
    for name, repeats in repeated.items():
        # As text: NaN in the same place is the same output.
        if len({json.dumps(answer) for answer in repeats}) > 1:
            findings.append(Finding(f"{name} repeated", False, "the outputs change from call to call"))
    return findings


def _judge_ranked(
    check: str, rows: Floats, first: dict[str, Any], classes: list[list[str]], scores: Any
) -> Finding:
    """Judge classes that are told best first, with their scores."""
    told = _floats(scores)
    best = -np.sort(-rows, axis=1)[:, : told.shape[1]]
    gap = float(np.abs(best - told).max()) if best.shape == told.shape else float("inf")
    named = all(
        abs(dict(zip(names, row, strict=True)).get(name, np.inf) - score) <= SAME_ANSWER
        for names, row, some, numbers in zip(first["class_names"], rows, classes, told, strict=True)
        for name, score in zip(some, numbers, strict=True)
    )
    if named and gap <= SAME_ANSWER:
        return Finding(check, True, "the probabilities of serving_default, the best first")
    return Finding(check, False, "other classes or scores than the probabilities of serving_default")


def _judge_features(features: Floats, rows: Floats) -> Finding:
    check = "features"
    if not np.isfinite(features).all():
        return Finding(check, False, "not finite")
    if np.ptp(rows, axis=0).max() > SAME_ANSWER and not np.ptp(features, axis=0).max() > 0:
        return Finding(check, False, "images with other answers have the same")
    return Finding(check, True, f"{features.shape[1]} numbers an image")


def _judge_explain(told: dict[str, Any], predicted: list[str]) -> Finding:
    check, heat = "explain", _floats(told["heatmap"])
    if told["predicted"] != predicted:
        return Finding(check, False, "explains another class than serving_default answers")
    if not (np.isfinite(heat).all() and heat.min() >= 0 and heat.max() <= 1):
        return Finding(check, False, "a map leaves 0 to 1")
    return Finding(check, True, f"maps of {heat.shape[1]} x {heat.shape[2]}, from 0 to 1")


def _floats(rows: Any) -> Floats:
    return np.asarray(rows, dtype=np.float32)


TIME_LIMIT_S = 1200


def ask_in_fresh_process(
    script: Path, request: dict[str, Any], *, images: Any, encoded: Sequence[bytes] = ()
) -> dict[str, Any]:
    """Run `python -I SCRIPT REQUEST.json ANSWER.json` and return the answer.

    Args:
        script: it imports nothing of this package.
        request: what it is asked; `encoded` and `images` are added, the paths of files.
        images: an array for `numpy.load`.
        encoded: whole files.

    Returns:
        What it wrote, or `{"graph": {}, "answers": None, "error": reason}` where it wrote nothing.
    """
    with tempfile.TemporaryDirectory(prefix="kerastl.") as name:
        folder = Path(name)
        files = [folder / f"{index}.image" for index in range(len(encoded))]
        for file, image in zip(files, encoded, strict=True):
            file.write_bytes(image)
        np.save(folder / "images.npy", images)
        paths = {"encoded": [str(file) for file in files], "images": str(folder / "images.npy")}
        asked, answer = folder / "request.json", folder / "answer.json"
        asked.write_text(json.dumps(request | paths), encoding="utf-8")
        # -I: neither the working directory nor PYTHONPATH can slip code into the fresh process.
        command = [sys.executable, "-I", str(script), str(asked), str(answer)]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, check=False, timeout=TIME_LIMIT_S
            )
        except subprocess.TimeoutExpired:
            return no_answer(f"gave up after {TIME_LIMIT_S} seconds")
        if not answer.is_file():
            # A crash in a runtime's own code leaves no exception, only a signal and what it wrote.
            tail = done.stderr.decode(errors="replace").strip()[-500:]
            return no_answer(f"the process ended with {done.returncode}: {tail}")
        content: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
        return content


def no_answer(reason: str) -> dict[str, Any]:
    """Return the answer of a process that gave none."""
    return {"graph": {}, "answers": None, "error": reason}


PROBE = Path(__file__).with_name("_probe.py")
FRESH_PROCESS = "fresh process"


def verify(
    export: Path, *, encoded: Sequence[bytes], expected: Expected | None, server: Server | None = None
) -> list[Finding]:
    """Check a SavedModel on real images.

    The graph is checked before it is loaded. An export with Python, random, file, network, unknown or XLA-compiled
    operations is not loaded; its outputs are then not checked.

    Args:
        export: the numbered folder that holds `saved_model.pb`.
        encoded: whole image files that can be decoded; two or more with different predictions.
        expected: the predictions of the run's own model; None if unavailable.
        server: a running TensorFlow Serving to check as well; None if there is none. The images are sent to it.

    Returns:
        One finding for each check, in a fixed order; `passed` is None if the check was not made.

    Raises:
        RequestError: not an export of kerastl, or there is no image.
    """
    manifest = read_manifest(export)
    if not encoded:
        raise RequestError("An export is verified on images, and there are none.")
    findings = [check_files(export, manifest)]
    if expected is not None and expected.settings:
        findings.append(check_settings(manifest, expected.settings))
    contract = check_contract(export)
    findings += contract
    try:
        faults = graph_faults(export)
    except (OSError, ValueError):
        faults = None
    findings += graph_findings(faults)
    answers = None
    if faults is None or reasons_not_to_load(faults):
        reason = "not started, because the check of the graph found a fault"
        findings.append(Finding(FRESH_PROCESS, None, reason))
    else:
        images = decode_images(encoded, manifest)
        request = {"export": str(export.resolve())}
        answer = ask_in_fresh_process(PROBE, request, images=images, encoded=encoded)
        findings.append(_check_answered(answer))
        if all(finding.good for finding in contract if finding.check == ENDPOINTS):
            answers = answer["answers"]
    if answers is not None:
        findings += judge_answers(answers, manifest, expected)
        findings += judge_others(answers)
    if server is not None:
        findings += check_live(
            server,
            export,
            images=encoded,
            image_size_px=manifest.image_size_px,
            reference=reference_of(answers, expected),
        )
    return findings


def check_files(export: Path, manifest: Manifest) -> Finding:
    """Compare the files of an export with the hashes of its manifest."""
    faults = str(compare_hashes(export, manifest.files))
    passed = f"{len(manifest.files)} files have the sha256 of the manifest"
    return Finding("files", not faults, faults or passed)


def check_settings(manifest: Manifest, settings: dict[str, Any]) -> Finding:
    """Compare what a manifest tells with the fields that it must have."""
    faults = [
        f"{name} is {getattr(manifest, name)} in the export and {value} in the run"
        for name, value in settings.items()
        if getattr(manifest, name) != value
    ]
    passed = f"{', '.join(settings)} are the run's"
    return Finding("settings", not faults, "; ".join(faults) or passed)


def _check_answered(answer: dict[str, Any]) -> Finding:
    if answer["error"] is not None:
        return Finding(FRESH_PROCESS, False, f"no answer: {answer['error'][:600]}")
    return Finding(FRESH_PROCESS, True, "a TensorFlow session runs it without kerastl and Keras")

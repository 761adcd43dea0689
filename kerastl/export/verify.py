"""Check an export in a fresh process: does it predict as kerastl does, every time, alone and in a batch?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kerastl.data.decode import decoded
from kerastl.errors import RequestError
from kerastl.export.contract import ENDPOINTS, check_contract
from kerastl.export.findings import Expected, Finding, graph_findings, judge_answers
from kerastl.export.fresh_process import ask_in_fresh_process
from kerastl.export.live import check_live, reference_of
from kerastl.export.live_clients import Server
from kerastl.export.manifest import Manifest, read_manifest
from kerastl.export.other_findings import judge_others
from kerastl.export.outside import graph_faults, reasons_not_to_load
from kerastl.runs import differences

PROBE = Path(__file__).with_name("_probe.py")
FRESH_PROCESS = "fresh process"


def verify(
    export: Path,
    *,
    pictures: Sequence[bytes],
    expected: Expected | None,
    server: Server | None = None,
) -> list[Finding]:
    """Check a SavedModel on real images.

    The graph is checked before it is loaded. An export with Python, random, file, network, unknown or XLA-compiled
    operations is not loaded; its outputs are then not checked.

    Args:
        export: the numbered folder that holds `saved_model.pb`.
        pictures: whole image files that can be decoded; two or more with different predictions.
        expected: the predictions of the run's own model; None if unavailable.
        server: a running TensorFlow Serving to check as well; None if there is none. The images are sent to it.

    Returns:
        One finding for each check, in a fixed order; `passed` is None if the check was not made.

    Raises:
        RequestError: not an export of kerastl, or there is no image.
    """
    manifest = read_manifest(export)
    if not pictures:
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
        images = decoded(pictures, manifest)
        request = {"export": str(export.resolve())}
        answer = ask_in_fresh_process(PROBE, request, images=images, pictures=pictures)
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
            pictures=pictures,
            image_size_px=manifest.image_size_px,
            reference=reference_of(answers, expected),
        )
    return findings


def check_files(export: Path, manifest: Manifest) -> Finding:
    """Compare the files of an export with the hashes of its manifest."""
    faults = str(differences(export, manifest.files))
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

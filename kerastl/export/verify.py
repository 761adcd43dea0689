"""Check an export in a fresh process: does it answer as kerastl does, every time, alone and in a batch?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kerastl.data.decoded import decoded
from kerastl.errors import RequestError
from kerastl.export.contract import ENDPOINTS, check_contract
from kerastl.export.findings import Expected, Finding, judge_answers, judge_graph
from kerastl.export.fresh_process import ask_in_fresh_process, no_answer
from kerastl.export.live.check import check_live
from kerastl.export.live.judge import Reference
from kerastl.export.live.server import Server
from kerastl.export.manifest import Manifest, read_manifest
from kerastl.export.native.judge import NOT_LOADED, without_python
from kerastl.export.other_findings import judge_others
from kerastl.export.outside import outside_ops
from kerastl.runs import differences

PROBE = Path(__file__).with_name("_probe.py")


def verify(
    export: Path,
    *,
    pictures: Sequence[bytes],
    expected: Expected | None,
    server: Server | None = None,
) -> list[Finding]:
    """Check a SavedModel on real pictures.

    Args:
        export: the numbered folder that holds `saved_model.pb`.
        pictures: whole files that can be decoded; two or more that the model tells apart.
        expected: what kerastl itself answers for them; None: that comparison is not made.
        server: a running TF Serving that is asked the same; None: none is. The pictures are sent to it.

    Returns:
        One finding for each check, in a fixed order; `passed` is None where it was not made.

    Raises:
        RequestError: not an export of kerastl, or no picture.
    """
    manifest = read_manifest(export)
    if not pictures:
        raise RequestError("An export is verified on pictures, and there is none.")
    findings = [check_files(export, manifest)]
    if expected is not None and expected.settings:
        findings.append(check_settings(manifest, expected.settings))
    contract = check_contract(export)
    findings += contract
    outside = outside_ops(export)
    findings.append(_check_outside(outside))
    if outside:
        answer, native = no_answer("it was not loaded, as it reaches outside"), NOT_LOADED
    else:
        images = decoded(pictures, manifest)
        asked = {"export": str(export.resolve())}
        answer = ask_in_fresh_process(PROBE, asked, images=images, pictures=pictures)
        native = without_python(
            export, pictures=pictures, images=images, answers=answer["answers"], expected=expected
        )
    sound = all(one.good for one in contract if one.check == ENDPOINTS)
    answers = answer["answers"] if sound else None
    findings += _judge(answer, answers, manifest, expected)
    findings.append(native)
    if server is not None:
        reference = Reference.of(answers, expected)
        size = manifest.image_size_px
        findings += check_live(
            server, export, pictures=pictures, image_size_px=size, reference=reference
        )
    return findings


def _judge(
    answer: dict[str, Any],
    answers: dict[str, Any] | None,
    manifest: Manifest,
    expected: Expected | None,
) -> list[Finding]:
    """Judge what the fresh process told; `answers` are None where they cannot be judged."""
    findings = [*judge_graph(answer["graph"]), _check_answered(answer)]
    if answers is not None:
        findings += judge_answers(answers, manifest, expected)
        findings += judge_others(answers)
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


def _check_outside(outside: Sequence[str]) -> Finding:
    name = "stays inside"
    if outside:
        return Finding(name, False, f"{', '.join(outside[:5])}: could reach files or the network")
    return Finding(name, True, "no operation reaches files, the network or another process")


def _check_answered(answer: dict[str, Any]) -> Finding:
    if answer["error"] is not None:
        return Finding("fresh process", False, f"no answer: {answer['error'][:600]}")
    return Finding("fresh process", True, "loads and answers without kerastl and Keras")

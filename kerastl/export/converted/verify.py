"""Check a converted model in a fresh process, in its own runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kerastl.data.decode import decoded
from kerastl.errors import RequestError
from kerastl.export.converted.find import Converted
from kerastl.export.converted.judge import judge_converted
from kerastl.export.converted.packages import check_formats
from kerastl.export.findings import Expected, Finding
from kerastl.export.fresh_process import ask_in_fresh_process
from kerastl.export.manifest import read_manifest
from kerastl.export.verify import check_files, check_settings

SCRIPT = Path(__file__).with_name("_converted_probe.py")


def verify_converted(
    found: Converted, *, pictures: Sequence[bytes], expected: Expected | None
) -> list[Finding]:
    """Check a converted model on real pictures.

    Args:
        found: its folder and format.
        pictures: whole files that can be decoded; two or more that the model tells apart.
        expected: what kerastl itself answers for them; None: that comparison is not made.

    Returns:
        One finding for each check, in a fixed order; `passed` is None where it was not made.

    Raises:
        RequestError: not an export of kerastl, no picture, or the runtime is not installed.
    """
    manifest = read_manifest(found.folder)
    check_formats([found.format_name])
    if not pictures:
        raise RequestError("An export is verified on pictures, and there is none.")
    findings = [check_files(found.folder, manifest)]
    if expected is not None and expected.settings:
        findings.append(check_settings(manifest, expected.settings))
    request = {"plugin": str(found.module.__file__), "export": str(found.folder.resolve())}
    answer = ask_in_fresh_process(SCRIPT, request, images=decoded(pictures, manifest))
    if answer["error"] is not None:
        return [*findings, Finding("fresh process", False, f"no answer: {answer['error'][:600]}")]
    findings.append(
        Finding("fresh process", True, "opens and answers without TensorFlow, Keras and kerastl")
    )
    return [*findings, *judge_converted(answer["answers"], manifest, expected)]

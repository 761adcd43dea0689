"""Check a converted model in a fresh process, in its own runtime."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerastl.errors import RequestError
from kerastl.export.converted.find import Converted
from kerastl.export.converted.judge import judge_converted
from kerastl.export.converted.packages import check_formats
from kerastl.export.converted.pixels import decoded
from kerastl.export.findings import Expected, Finding
from kerastl.export.manifest import read_manifest
from kerastl.export.verify import TIME_LIMIT_S, check_files, check_settings

SCRIPT = Path(__file__).with_name("_ask.py")


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
    answer = _ask_in_fresh_process(found, decoded(pictures, manifest))
    if answer["error"] is not None:
        return [*findings, Finding("fresh process", False, f"no answer: {answer['error'][:600]}")]
    findings.append(
        Finding("fresh process", True, "opens and answers without TensorFlow, Keras and kerastl")
    )
    return [*findings, *judge_converted(answer["answers"], manifest, expected)]


def _ask_in_fresh_process(found: Converted, images: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="kerastl.") as name:
        folder = Path(name)
        np.save(folder / "images.npy", images)
        request = {
            "plugin": str(found.module.__file__),
            "export": str(found.folder.resolve()),
            "images": str(folder / "images.npy"),
        }
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        return _run(folder / "request.json", folder / "answer.json")


def _run(request: Path, answer: Path) -> dict[str, Any]:
    # -I: neither the working directory nor PYTHONPATH can slip code into the fresh process.
    command = [sys.executable, "-I", str(SCRIPT), str(request), str(answer)]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=TIME_LIMIT_S)
    except subprocess.TimeoutExpired:
        return {"answers": None, "error": f"gave up after {TIME_LIMIT_S} seconds"}
    if not answer.is_file():
        # A crash in a runtime's own code leaves no exception, only a signal and what it wrote.
        tail = done.stderr.decode(errors="replace").strip()[-500:]
        return {"answers": None, "error": f"the process ended with {done.returncode}: {tail}"}
    content: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    return content

"""Check an export in a fresh process: does it answer as kerastl does, every time, alone and in a batch?"""

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

from kerastl.errors import RequestError
from kerastl.export.contract import ENDPOINTS, check_contract
from kerastl.export.findings import Expected, Finding, judge_answers, judge_graph
from kerastl.export.live.server import Server
from kerastl.export.manifest import Manifest, hashes_of, read_manifest
from kerastl.export.native.judge import NOT_LOADED, without_python
from kerastl.export.other_findings import judge_others
from kerastl.export.outside import outside_ops

PROBE = Path(__file__).with_name("_probe.py")
TIME_LIMIT_S = 1200


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
        answer, native = _no_answer("it was not loaded, as it reaches outside"), NOT_LOADED
    else:
        images = _decoded(pictures, manifest)
        answer = _ask_in_fresh_process(export, pictures, images)
        native = without_python(
            export, pictures=pictures, images=images, answers=answer["answers"], expected=expected
        )
    findings += judge_graph(answer["graph"])
    findings.append(_check_answered(answer))
    sound = all(one.good for one in contract if one.check == ENDPOINTS)
    answers = answer["answers"] if sound else None
    if answers is not None:
        findings += judge_answers(answers, manifest, expected)
        findings += judge_others(answers)
    findings.append(native)
    if server is not None:
        from kerastl.export.live.check import check_live
        from kerastl.export.live.judge import Reference

        findings += check_live(
            server,
            export,
            pictures=pictures,
            image_size_px=manifest.image_size_px,
            reference=Reference.of(answers, expected),
        )
    return findings


def check_files(export: Path, manifest: Manifest) -> Finding:
    """Compare the files of an export with the hashes of its manifest."""
    found = hashes_of(export)
    faults = [f"{name} is missing" for name in sorted(manifest.files.keys() - found.keys())]
    faults += [f"{name} was added" for name in sorted(found.keys() - manifest.files.keys())]
    faults += [
        f"{name} was changed"
        for name in sorted(found.keys() & manifest.files.keys())
        if found[name] != manifest.files[name]
    ]
    passed = f"{len(found)} files have the sha256 of the manifest"
    return Finding("files", not faults, "; ".join(faults) or passed)


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


def _ask_in_fresh_process(export: Path, pictures: Sequence[bytes], images: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="kerastl.") as name:
        folder = Path(name)
        files = [folder / f"{index}.picture" for index in range(len(pictures))]
        for file, picture in zip(files, pictures, strict=True):
            file.write_bytes(picture)
        np.save(folder / "images.npy", images)
        request = {
            "export": str(export.resolve()),
            "pictures": [str(file) for file in files],
            "images": str(folder / "images.npy"),
        }
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        return _run_probe(folder / "request.json", folder / "answer.json")


def _decoded(pictures: Sequence[bytes], manifest: Manifest) -> Any:
    """Return the pictures as `[n, size, size, 3]` float32, decoded as the manifest says."""
    import tensorflow as tf

    from kerastl.data.decode import load_image

    loaded = [
        load_image(
            tf.constant(picture),
            image_size_px=manifest.image_size_px,
            window=manifest.window,
            max_pixels=manifest.max_pixels,
        )
        for picture in pictures
    ]
    return np.stack([image.numpy() for image in loaded])


def _run_probe(request: Path, answer: Path) -> dict[str, Any]:
    # -I: neither the working directory nor PYTHONPATH can slip code into the fresh process.
    command = [sys.executable, "-I", str(PROBE), str(request), str(answer)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, check=False, timeout=TIME_LIMIT_S
        )
    except subprocess.TimeoutExpired:
        return _no_answer(f"gave up after {TIME_LIMIT_S} seconds")
    if not answer.is_file():
        # A crash in TensorFlow's C++ code leaves no exception, only a signal and what it wrote.
        tail = done.stderr.decode(errors="replace").strip()[-500:]
        return _no_answer(f"the process ended with {done.returncode}: {tail}")
    content: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    return content


def _no_answer(reason: str) -> dict[str, Any]:
    return {"graph": {}, "answers": None, "error": reason}

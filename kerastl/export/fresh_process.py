"""Run a script of this package in a process that nothing of this one reaches, and read what it found."""

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

TIME_LIMIT_S = 1200


def ask_in_fresh_process(
    script: Path, request: dict[str, Any], *, images: Any, pictures: Sequence[bytes] = ()
) -> dict[str, Any]:
    """Run `python -I SCRIPT REQUEST.json ANSWER.json` and return the answer.

    Args:
        script: it imports nothing of this package.
        request: what it is asked; `images` and `pictures` are added, the paths of files.
        images: an array for `numpy.load`.
        pictures: whole files.

    Returns:
        What it wrote, or `{"graph": {}, "answers": None, "error": reason}` where it wrote nothing.
    """
    with tempfile.TemporaryDirectory(prefix="kerastl.") as name:
        folder = Path(name)
        files = [folder / f"{index}.picture" for index in range(len(pictures))]
        for file, picture in zip(files, pictures, strict=True):
            file.write_bytes(picture)
        np.save(folder / "images.npy", images)
        paths = {
            "pictures": [str(file) for file in files],
            "images": str(folder / "images.npy"),
        }
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

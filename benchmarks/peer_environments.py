"""An environment for each peer, made from `benchmarks/peers/NAME.txt` in the cache folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent


class Unavailable(Exception):
    """A peer that cannot be measured, and why."""


def python_of(environment: str) -> str:
    """Return the interpreter of an environment, which is made where it is not there or its file has changed."""
    if not environment:
        return sys.executable
    from kerastl.data import cache_folder

    requirements = HERE / "peers" / f"{environment}.txt"
    folder = cache_folder() / "peers" / environment
    lines = [line for line in requirements.read_text().splitlines() if not line.startswith("#")]
    wanted = "\n".join([sys.version, *lines])
    stamp, python = folder / "made-of", folder / "bin" / "python"
    if stamp.is_file() and stamp.read_text() == wanted:
        return str(python)
    print(f"making the environment {folder}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--requirement", requirements],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    if done.returncode:
        raise Unavailable(f"pip could not install {requirements.name}: {last_line(done.stderr)}")
    stamp.write_text(wanted)
    return str(python)


def last_line(text: str) -> str:
    """Return the last line of what a process said."""
    return (text.strip().splitlines() or ["no reason told"])[-1]

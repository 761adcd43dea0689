"""Python environments of the peers, created from `benchmarks/peers/NAME.txt` in the cache folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent


class Unavailable(Exception):
    """A peer cannot be measured."""


def python_of(environment: str) -> str:
    """Return the interpreter of an environment. The environment is created if it is missing or its requirements have changed."""
    if not environment:
        return sys.executable
    from kerastl.data import cache_folder

    requirements = HERE / "peers" / f"{environment}.txt"
    folder = cache_folder() / "peers" / environment
    lines = [line for line in requirements.read_text().splitlines() if not line.startswith("#")]
    contents = "\n".join([sys.version, *lines])
    stamp, python = folder / "made-of", folder / "bin" / "python"
    if stamp.is_file() and stamp.read_text() == contents:
        return str(python)
    print(f"creating the environment {folder}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--requirement", requirements],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    if done.returncode:
        raise Unavailable(f"pip could not install {requirements.name}: {last_line(done.stderr)}")
    stamp.write_text(contents)
    return str(python)


def last_line(text: str) -> str:
    """Return the last line of the output of a process."""
    return (text.strip().splitlines() or ["no error message"])[-1]

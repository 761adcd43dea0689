"""The numbers of an export's versions: which are taken, which is next. No TensorFlow."""

from __future__ import annotations

import shlex
from pathlib import Path

from kerastl.errors import RequestError

HIGHEST = 2**63 - 1
"""TF Serving reads a version into 64 bits."""


def numbered_in(out: Path) -> dict[Path, int]:
    """Return everything in a folder that a server would take for a version, with its number."""
    if not out.is_dir():
        return {}
    found = {path: int(path.name) for path in out.iterdir() if path.name.isdecimal()}
    return {path: number for path, number in found.items() if number <= HIGHEST}


def highest_in(out: Path) -> int:
    """Return the highest number in a folder, with which a server answers; 0 in an empty one."""
    return max(numbered_in(out).values(), default=0)


def next_number(out: Path) -> int:
    """Return the number after the highest in a folder; 1 in an empty one.

    Raises:
        RequestError: a server reads no higher number.
    """
    highest = highest_in(out)
    if highest == HIGHEST:
        raise RequestError(
            f"{out} holds version {HIGHEST}, the highest that a server reads. Write elsewhere with --out, or give a "
            "free number: --version N"
        )
    return highest + 1


def check_free(out: Path, version: int) -> None:
    """See that a version can be written.

    Raises:
        RequestError: the number is not one that a server reads, or stands in the folder already.
    """
    if not 1 <= version <= HIGHEST:
        raise RequestError(f"A version is a whole number from 1 to {HIGHEST}, got {version}.")
    if version in numbered_in(out).values():
        raise refusal(out, version)


def refusal(out: Path, version: int) -> RequestError:
    """Return the error that tells of a version that is there already."""
    other = min(highest_in(out), HIGHEST - 1) + 1
    free = f"Leave out --version for {other}, or write" if other != version else "Write"
    return RequestError(
        f"{out} holds version {version} already, and nothing is overwritten. {free} elsewhere with --out. "
        "What is there is checked by: "
        f"kerastl verify {shlex.quote(str(out / str(version)))}"
    )

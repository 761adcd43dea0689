"""The numbers of an export's versions: which are taken, which is next. No TensorFlow."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kerastl.errors import RequestError
from kerastl.export.manifest import read_manifest

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


NOT_MODELS = {".md", ".json", ".txt"}


@dataclass(frozen=True)
class Pruned:
    """What became of the versions below the one that was written.

    Args:
        removed: versions that are gone, the oldest first.
        left: numbered entries that stay because they are no version of this export.
    """

    removed: tuple[Path, ...]
    left: tuple[Path, ...]


def check_keep(keep: int) -> None:
    """Raise RequestError where fewer than one version would be kept."""
    if keep < 1:
        raise RequestError(f"--keep takes a number from 1 on, got {keep}: one version must stay.")


def prune(written: Path, keep: int) -> Pruned:
    """Remove the oldest versions so that `keep` remain, the written one among them; higher numbers are left alone.

    Removed is only a folder with a manifest of kerastl and a model file of the same kind as the written one. It is renamed to a
    hidden name first: a server sees it whole or not at all.

    Args:
        written: the numbered folder that was just written.
        keep: at least 1.

    Raises:
        RequestError: `keep` is below 1, or `written` is no export.
        OSError: a folder cannot be removed.
    """
    check_keep(keep)
    kind = _kind(written)
    numbers = numbered_in(written.parent)
    older = sorted(
        (path for path, number in numbers.items() if number < int(written.name)), key=numbers.__getitem__
    )
    ours = [path for path in older if _is_ours(path, kind)]
    removed = ours[: max(0, len(ours) - (keep - 1))]
    for path in removed:
        _remove(path)
    return Pruned(tuple(removed), tuple(path for path in older if path not in ours))


def _is_ours(path: Path, kind: frozenset[str]) -> bool:
    # A link leads to a folder that others may use.
    if path.is_symlink() or not path.is_dir():
        return False
    try:
        return bool(_kind(path) & kind)
    except (RequestError, OSError):
        return False


def _kind(export: Path) -> frozenset[str]:
    """Return the endings of the model files of an export, by its manifest: {".pb"}, {".keras"}."""
    files = (PurePosixPath(name) for name in read_manifest(export).files)
    return frozenset(one.suffix for one in files if len(one.parts) == 1) - NOT_MODELS


def _remove(path: Path) -> None:
    # Hidden, and no number: no server takes what a killed process leaves there for a version.
    hidden = Path(tempfile.mkdtemp(dir=path.parent, prefix=".kerastl."))
    shutil.rmtree(path.rename(hidden / path.name))
    hidden.rmdir()

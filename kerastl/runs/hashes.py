"""The files of an export and the hashes that its manifest tells of them. No TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kerastl.runs.files import sha256_of

MANIFEST = "manifest.json"
SAMPLES = "samples"
ANEW = "Export the run again, or ask the hospital that exported it for it anew."
"""What to do where an export is damaged: whoever holds it need not have the run."""


@dataclass(frozen=True)
class Differences:
    """Names of files in which an export is not what its manifest tells, each in order.

    Args:
        missing: told, and not there.
        added: there, and not told.
        changed: of another sha256.
    """

    missing: tuple[str, ...]
    added: tuple[str, ...]
    changed: tuple[str, ...]

    def __str__(self) -> str:
        """Return each file and what is wrong with it; empty where there is none."""
        words = [f"{name} is missing" for name in self.missing]
        words += [f"{name} was added" for name in self.added]
        words += [f"{name} was changed" for name in self.changed]
        return "; ".join(words)


def hashes_of(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file of an export but its manifest and its samples."""
    return {name: sha256_of(folder / name) for name in sorted(_names(folder))}


def differences(folder: Path, told: Mapping[str, str]) -> Differences:
    """Compare the files of an export with the hashes that are told of them; nothing outside the folder is read.

    Args:
        folder: with the manifest.
        told: sha256 by the path within the folder.
    """
    found = set(_names(folder))
    both = sorted(found & told.keys())
    return Differences(
        missing=tuple(sorted(told.keys() - found)),
        added=tuple(sorted(found - told.keys())),
        changed=tuple(name for name in both if sha256_of(folder / name) != told[name]),
    )


def _names(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        inside = path.relative_to(folder)
        if path.is_file() and inside.as_posix() != MANIFEST and inside.parts[0] != SAMPLES:
            yield inside.as_posix()

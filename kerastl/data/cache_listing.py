"""What lies in the cache folder: entry by entry, how large, when used last, what it holds. No name of a picture is told."""

from __future__ import annotations

import contextlib
import csv
import json
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kerastl.data.cache import cache_folder
from kerastl.data.verdicts import FILE_NAME

Kind = Literal["activations", "phantom", "tfds", "verdicts"]
NAMES: dict[Kind, re.Pattern[str]] = {
    "activations": re.compile(r"[0-9a-f]{32}"),
    "phantom": re.compile(r"[0-9a-f]{24}"),
    "tfds": re.compile(r"\w+-[0-9a-f]{16}"),
}
"""Names of the entries of each kind, in the folder of that name. What is called otherwise is not ours."""
PIECE = re.compile(r"\.(?P<owner>.+)\.[a-z0-9_]+")
"""Names of folders in which an entry was built, or removed, by a process that may have been killed."""


@dataclass(frozen=True)
class Entry:
    """One entry of the cache, or a piece that a process is writing or left when it was killed.

    Args:
        kind: `activations` of frozen layers, `phantom` hospitals as drawn, `tfds`: pictures of TensorFlow Datasets as
            files, `verdicts`: what decoding every file once showed.
        path: its folder; of the verdicts their file.
        num_bytes: on disk.
        last_used: seconds since 1970.
        holds: as far as it is known `network`, `behind` (the block that it was made behind), `data_set`, `pictures` (of
            verdicts: files), `views`, `precision`.
        owner: the entry whose lock guards it; of a piece the one it belongs to.
    """

    kind: Kind
    path: Path
    num_bytes: int
    last_used: float
    holds: dict[str, Any] = field(default_factory=dict)
    owner: Path | None = None

    @property
    def is_piece(self) -> bool:
        """Tell whether it is no entry but a piece of one."""
        return self.owner is not None

    def words(self) -> str:
        """Return in one line what it holds: `mobilenet_v2 behind block_13, 600 pictures, 2 views, bfloat16`."""
        if self.is_piece:
            return "a piece: being written, or left by a process that was killed"
        told = dict(self.holds)
        behind = f" behind {told['behind']}" if told.get("behind") else ""
        parts = [str(told.get("network") or told.get("data_set") or "") + behind]
        for name, what in (
            ("pictures", "file" if self.kind == "verdicts" else "picture"),
            ("views", "view"),
        ):
            if told.get(name) is not None and (name, told[name]) != ("views", 1):
                parts.append(f"{told[name]:,} {what}{'' if told[name] == 1 else 's'}")
        parts.append(told.get("precision") or "")
        return ", ".join(part for part in parts if part).strip() or "-"


def cache_entries(folder: Path | None = None) -> list[Entry]:
    """Return every entry of a cache folder, the one used last first.

    Args:
        folder: None: the user's.
    """
    folder = folder or cache_folder()
    found = [*_verdicts(folder / FILE_NAME)]
    for kind in NAMES:
        found += _of_kind(folder / kind, kind)
    return sorted(found, key=lambda one: (-one.last_used, str(one.path)))


def _of_kind(folder: Path, kind: Kind) -> Iterator[Entry]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_symlink() or not path.is_dir():
            continue
        piece = PIECE.fullmatch(path.name)
        # An entry that goes away while it is looked at is none.
        with contextlib.suppress(FileNotFoundError):
            if NAMES[kind].fullmatch(path.name):
                yield _entry(kind, path, _holds(kind, path))
                for inner in path.glob(".*.*"):
                    yield _entry(kind, inner, {}, owner=path)
            elif piece and NAMES[kind].fullmatch(piece["owner"]):
                yield _entry(kind, path, {}, owner=folder / piece["owner"])


def _entry(kind: Kind, path: Path, holds: dict[str, Any], owner: Path | None = None) -> Entry:
    return Entry(kind, path, _size(path), path.stat().st_mtime, holds, owner)


def _size(folder: Path) -> int:
    """Return the bytes of an entry's files; a piece inside it counts by itself."""
    total = 0
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            total += 0 if PIECE.fullmatch(path.name) else _size(path)
        else:
            total += path.lstat().st_size
    return total


def _holds(kind: Kind, path: Path) -> dict[str, Any]:
    """Return what is known of an entry; nothing where it cannot be read."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        if kind == "activations":
            return dict(json.loads((path / "about.json").read_text(encoding="utf-8"))["holds"])
        if kind == "phantom":
            return {"pictures": _rows(path / "labels.csv")}
        splits = sorted(path.glob("*/index.csv"))
        return {"data_set": path.name.rpartition("-")[0], "pictures": sum(map(_rows, splits))}
    return {}


def _rows(table: Path) -> int:
    with table.open(encoding="utf-8", newline="") as file:
        return max(0, sum(1 for _ in csv.reader(file)) - 1)


def _verdicts(file: Path) -> Iterator[Entry]:
    if not file.is_file():
        return
    found, holds = file.stat(), {}
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(
            sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)
        ) as opened,
    ):
        holds = {"pictures": opened.execute("SELECT COUNT(*) FROM verdicts").fetchone()[0]}
    yield Entry("verdicts", file, found.st_size, found.st_mtime, holds)

"""Find pictures below a folder, whatever else lies there. No TensorFlow."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from natsort import natsorted

from kerastl.data.kinds import has_picture_name
from kerastl.data.records import count_of

SHOWN_EXTENSIONS = 8


@dataclass
class Skipped:
    """What was seen below a folder and is no picture of it."""

    extensions: Counter[str] = field(default_factory=Counter)
    outside_links: list[str] = field(default_factory=list)
    odd_names: int = 0
    loose: int = 0
    hidden: list[str] = field(default_factory=list)

    def notes(self) -> list[str]:
        """Return one line for each kind of thing that was skipped."""
        lines = []
        if self.extensions:
            total = sum(self.extensions.values())
            kinds = [f"{count} {kind}" for kind, count in self.extensions.most_common()]
            shown = ", ".join(kinds[:SHOWN_EXTENSIONS]) + (
                ", ..." if len(kinds) > SHOWN_EXTENSIONS else ""
            )
            lines.append(
                f"Skipped {count_of(total, 'file')} that are no pictures by name: {shown}."
            )
        if self.outside_links:
            number = count_of(len(self.outside_links), "symbolic link")
            lines.append(
                f"Did not follow {number} that lead out of the folder or nowhere, "
                f"the first: {self.outside_links[0]}."
            )
        if self.odd_names:
            lines.append(
                f"Skipped {count_of(self.odd_names, 'file')} whose name is not UTF-8: rename them."
            )
        if self.loose:
            number = count_of(self.loose, "picture")
            lines.append(f"Skipped {number} that lie beside the class folders, not in one.")
        if self.hidden:
            number = count_of(len(self.hidden), "hidden folder")
            lines.append(
                f"Skipped {number}, whose name begins with a dot, the first: {self.hidden[0]}."
            )
        return lines


@dataclass(frozen=True)
class Folder:
    """A place below the root: its path as written, and on disk."""

    name: str
    path: Path


def sub_folders(folder: Path, root: Path, skipped: Skipped) -> list[Folder]:
    """Return the visible sub-folders of a folder in natural order; links out of `root` are noted."""
    found = []
    with os.scandir(folder) as entries:
        hidden = [entry.name for entry in entries if entry.name.startswith(".") and entry.is_dir()]
    skipped.hidden += sorted(hidden)
    for entry in _entries(folder):
        if _stays_inside(entry, root, skipped) and entry.is_dir():
            if _is_utf8(entry.name):
                found.append(Folder(entry.name, Path(entry.path)))
            else:
                skipped.odd_names += 1
    return natsorted(found, key=lambda item: item.name)


def pictures(folder: Path, root: Path, skipped: Skipped, *, nested: bool = True) -> Iterator[Path]:
    """Yield the regular files below `folder` that are pictures by name, in a fixed order.

    Hidden files are passed over. What decides whether a file is a picture is its content, later;
    its name decides whether it is looked at.

    Args:
        folder: where to look.
        root: links that lead out of it are not followed.
        skipped: filled with what is passed over.
        nested: also look in sub-folders, each only once however many links lead to it.
    """
    waiting, seen = [folder], set()
    while waiting:
        place = waiting.pop()
        identity = place.stat()
        if (identity.st_dev, identity.st_ino) in seen:
            continue
        seen.add((identity.st_dev, identity.st_ino))
        deeper = []
        for entry in _entries(place):
            if not _stays_inside(entry, root, skipped):
                continue
            if entry.is_dir():
                deeper.append(Path(entry.path))
            elif entry.is_file() and _is_picture(entry.name, skipped):
                yield Path(entry.path)
        waiting += reversed(deeper) if nested else []


def written_path(file: Path, root: Path) -> str:
    """Return a path as outputs write it: relative to the root, with `/`."""
    return file.relative_to(root).as_posix()


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as found:
        return sorted(
            (entry for entry in found if not entry.name.startswith(".")),
            key=lambda entry: entry.name,
        )


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_picture(name: str, skipped: Skipped) -> bool:
    if not _is_utf8(name):
        skipped.odd_names += 1
        return False
    if has_picture_name(name):
        return True
    extension = Path(name).suffix[1:].lower()
    skipped.extensions[f".{extension}" if extension else "without extension"] += 1
    return False


def _stays_inside(entry: os.DirEntry[str], root: Path, skipped: Skipped) -> bool:
    if not entry.is_symlink():
        return True
    try:
        target = Path(entry.path).resolve(strict=True)
    except (OSError, RuntimeError):
        target = None
    if target is not None and target.is_relative_to(root):
        return True
    name = entry.name if _is_utf8(entry.name) else ascii(entry.name)
    skipped.outside_links.append(name)
    return False

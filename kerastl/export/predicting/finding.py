"""From what a user names to the pictures: files, folders and all that lies below, or a list. No TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from natsort import natsorted

from kerastl.data.kinds import has_picture_name
from kerastl.errors import RequestError

LONGEST_LINE_BYTES = 2**16


def find_pictures(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the files that were named, and the pictures in the folders that were named.

    In a folder, and below it, files with the suffix of a picture count; hidden ones and links to
    folders are passed over. Files come in natural order (2 before 10). A file that was named itself
    is always yielded, and so is a folder that cannot be listed: to read it tells why. Held in memory are
    the names of one folder at a time.

    Raises:
        RequestError: a path does not exist.
    """
    missing = [shown(path) for path in paths if not os.path.exists(path)]  # noqa: PTH110 - Path's raises
    if missing:
        raise RequestError(f"There is no file or folder {', '.join(missing)}.")
    for path in paths:
        if path.is_dir():
            yield from _below(path)
        else:
            yield path


def _below(folder: Path) -> Iterator[Path]:
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        try:
            folders, files = _names(place)
        except OSError:
            yield place
            continue
        yield from (place / name for name in files)
        waiting += [place / name for name in reversed(folders)]


def _names(folder: Path) -> tuple[list[str], list[str]]:
    """Return the sub-folders and the pictures of a folder, by name."""
    folders, files = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                if not entry.is_symlink():
                    folders.append(entry.name)
            elif has_picture_name(entry.name):
                files.append(entry.name)
    # Sorted twice: `a1` and `a01` are equal in natural order, and a list that is gone on with must be the same.
    return natsorted(sorted(folders)), natsorted(sorted(files))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link in a circle, or into a place that is closed: to read it tells why


def named_in(file: BinaryIO) -> Iterator[Path]:
    """Yield the paths that a file names, one a line; empty lines are passed over.

    Raises:
        RequestError: a line cannot be a path.
    """
    number = 0
    while line := file.readline(LONGEST_LINE_BYTES):
        number += 1
        name = line.rstrip(b"\r\n")
        if b"\0" in line or len(line) == LONGEST_LINE_BYTES:
            raise RequestError(
                f"Line {number} of the list is no path: it holds a zero byte or has no end. "
                "Wanted is one path a line, as `find -print` writes them."
            )
        if name:
            yield Path(os.fsdecode(name))


def shown(path: Path) -> str:
    """Return a path as text that any terminal and any UTF-8 file can hold."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)

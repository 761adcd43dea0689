"""From what a user names to the pictures: files, folders and all that lies below. No TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from natsort import natsorted

from kerastl.data.kinds import has_picture_name
from kerastl.errors import RequestError


def find_pictures(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the files that were named, and the pictures in the folders that were named.

    In a folder, and below it, files with the suffix of a picture count; hidden ones and links to
    folders are passed over. Files come in natural order (2 before 10). A file that was named itself
    is always yielded.

    Raises:
        RequestError: a path does not exist.
    """
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise RequestError(f"There is no file or folder {', '.join(missing)}.")
    for path in paths:
        if path.is_dir():
            yield from _below(path)
        else:
            yield path


def _below(folder: Path) -> Iterator[Path]:
    for name, folders, files in os.walk(folder):
        # os.walk goes into the folders that are left in this very list, in its order.
        folders[:] = natsorted(one for one in folders if not one.startswith("."))
        for file in natsorted(files):
            if not file.startswith(".") and has_picture_name(file):
                yield Path(name, file)


def shown(path: Path) -> str:
    """Return a path as text that any terminal and any UTF-8 file can hold."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)

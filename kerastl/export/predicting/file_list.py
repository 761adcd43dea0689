"""The files that are asked for, on disk: counted and fingerprinted before the first is read. No TensorFlow."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

PIECE_BYTES = 2**20


@dataclass(frozen=True)
class FileList:
    """Paths in a temporary file: memory stays flat, and what happens to the folders meanwhile moves no batch.

    Args:
        file: the paths, a zero byte behind each.
        count: how many there are.
        sha256: of that file, as hex digits.
    """

    file: BinaryIO
    count: int
    sha256: str

    def batches(self, size: int, *, first: int = 0) -> Iterator[list[Path]]:
        """Yield the paths from the one of index `first` on, `size` at a time; the last batch may be smaller."""
        left = islice(self._paths(), first, None)
        while batch := list(islice(left, size)):
            yield batch

    def _paths(self) -> Iterator[Path]:
        self.file.seek(0)
        rest = b""
        while piece := self.file.read(PIECE_BYTES):
            *whole, rest = (rest + piece).split(b"\0")
            yield from (Path(os.fsdecode(name)) for name in whole)


@contextmanager
def listed(paths: Iterable[Path], folder: Path | None = None) -> Iterator[FileList]:
    """Write paths down; the file has no name and is gone with the process.

    Args:
        paths: in the order in which they will be answered.
        folder: whose disk holds the list, about 100 bytes a file; None: the system's temporary folder.

    Raises:
        OSError: that disk is full.
    """
    with _nameless(folder) as file:
        try:
            count, sha256 = _write(paths, file)
        except OSError as error:
            error.filename = error.filename or "the list of files"
            raise
        yield FileList(file, count, sha256)


def _nameless(folder: Path | None) -> BinaryIO:
    try:
        return cast(BinaryIO, tempfile.TemporaryFile(dir=folder))
    except OSError as error:
        # Python names a file that nobody asked for.
        error.filename = str(folder or tempfile.gettempdir())
        raise


def _write(paths: Iterable[Path], file: BinaryIO) -> tuple[int, str]:
    digest, count = hashlib.sha256(), 0
    for path in paths:
        name = os.fsencode(path) + b"\0"
        file.write(name)
        digest.update(name)
        count += 1
    file.flush()
    return count, digest.hexdigest()

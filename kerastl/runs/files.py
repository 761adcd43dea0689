"""Write a file whole or not at all, so that a killed run or a full disk leaves no half file."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kerastl.errors import RequestError

QUOTED_STARTS = ("=", "+", "-", "@", "\t", "\r", "'")
"""What a spreadsheet may take for a formula, and the quote itself, so that reading gives every text back."""


PIECE = re.compile(r"\..+\.[a-z0-9_]{8}\.part(\.\w+)?|\.kerastl\.[a-z0-9_]{8}")
"""Names of what a killed process leaves: files of `atomic_path`, and folders in which an export was built."""


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let an error say which file it is about: Python tells of a full disk without naming one."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; afterwards flush it to disk and rename it.

    Args:
        path: where the file is to stand; its folder must exist. The temporary has the same suffix.

    Raises:
        OSError: the disk is full or the folder cannot be written; what stood at `path` stays.
    """
    descriptor, name = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.stem}.", suffix=f".part{path.suffix}"
    )
    os.close(descriptor)
    part = Path(name)
    try:
        with _naming(path):
            yield part
            with part.open("rb+") as file:
                # A rename may reach the disk before the bytes do: a power cut would leave an empty file.
                os.fsync(file.fileno())
            part.chmod(0o644)
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write `content` whole or not at all, as `atomic_path` does.

    Args:
        path: where; its folder must exist.
        content: bytes, or text that is written as UTF-8.

    Raises:
        OSError: the disk is full or the folder cannot be written; what stood at `path` stays.
    """
    data = content.encode() if isinstance(content, str) else content
    with atomic_path(path) as part:
        part.write_bytes(data)


def remove_partial_files(folder: Path, *, skip_folders_with: str) -> None:
    """Remove the pieces that killed processes of kerastl left in a folder and below it.

    Args:
        folder: whose writer calls; a piece that another process is writing would be lost.
        but_below: sub-folders that hold a file of this name have a writer of their own and are left alone.
    """
    for place, folders, files in os.walk(folder):
        if Path(place) != folder and skip_folders_with in files:
            folders.clear()
            continue
        for name in filter(PIECE.fullmatch, files):
            Path(place, name).unlink(missing_ok=True)
        for name in filter(PIECE.fullmatch, tuple(folders)):
            shutil.rmtree(Path(place, name), ignore_errors=True)
            folders.remove(name)


def is_new_or_empty(folder: Path) -> bool:
    """Tell whether a folder can be filled without touching what is there: it is new, or empty."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON with sorted keys; NaN is refused, as no other reader takes it."""
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    write_atomic(path, text + "\n")


def csv_cell(value: Any) -> str:
    """Return a cell that no spreadsheet takes for a formula: text that begins with = + - @ or a quote gets a quote.

    Numbers are left alone. `csv_cell("=1+1")` is `'=1+1`.
    """
    text = "" if value is None else str(value)
    if isinstance(value, str) and text.startswith(QUOTED_STARTS):
        return "'" + text
    return text


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table as UTF-8 CSV, atomically, formula cells quoted."""
    write_atomic(path, "".join(csv_line(row) for row in (header, *rows)))


def csv_line(cells: Sequence[Any]) -> str:
    """Return one row of a table with its line's end; formula cells and every line break are quoted."""
    # Before Python 3.13 csv quotes a line break in a cell only where the line's own end holds it. With "\r\n"
    # as the end both are quoted; a bare "\r" would begin a new row for whoever reads the table.
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow([csv_cell(cell) for cell in cells])
    return text.getvalue().removesuffix("\r\n") + "\n"


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a table that `write_csv` wrote, the quotes before formula cells taken off again.

    Raises:
        RequestError: a row has more or fewer cells than the header.
    """
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = [[_plain(cell) for cell in row] for row in csv.reader(file)] or [[]]
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise RequestError(f"{path}, row {number}: {len(row)} cells, the header has {len(header)}.")
    return [dict(zip(header, row, strict=True)) for row in rows]


def _plain(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(QUOTED_STARTS) else cell


def append_line(path: Path, line: str) -> None:
    """Append one line and flush it to disk: for logs that grow while a run goes on.

    Where a killed process left half a line, the new one begins below it.
    """
    with _naming(path), path.open("ab+") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else "\n" + line
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file as 64 hex digits, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def format_bytes(num_bytes: int) -> str:
    """Return a size as people read it: `3.2 GB`."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes} bytes"


MANIFEST = "manifest.json"
SAMPLES = "samples"
EXPORT_AGAIN = "Export the run again, or ask the hospital that exported it for it anew."
"""What to do where an export is damaged: whoever holds it need not have the run."""


@dataclass(frozen=True)
class FolderDifferences:
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


def hash_files(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file of an export but its manifest and its samples."""
    return {name: sha256_of(folder / name) for name in sorted(_names(folder))}


def compare_hashes(folder: Path, told: Mapping[str, str]) -> FolderDifferences:
    """Compare the files of an export with the hashes that are told of them; nothing outside the folder is read.

    Args:
        folder: with the manifest.
        told: sha256 by the path within the folder.
    """
    found = set(_names(folder))
    both = sorted(found & told.keys())
    return FolderDifferences(
        missing=tuple(sorted(told.keys() - found)),
        added=tuple(sorted(found - told.keys())),
        changed=tuple(name for name in both if sha256_of(folder / name) != told[name]),
    )


def _names(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        inside = path.relative_to(folder)
        if path.is_file() and inside.as_posix() != MANIFEST and inside.parts[0] != SAMPLES:
            yield inside.as_posix()


@contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Hold a folder, by a file in it of that name, while what is inside runs.

    Raises:
        RequestError: another process holds it.
    """
    lock = FileLock(folder / name)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RequestError(f"{folder} is being written by another process.") from None
    try:
        yield
    finally:
        lock.release()

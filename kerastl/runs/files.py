"""Atomic file writes, CSV and JSON files, and file hashes of exports."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from kerastl.errors import RequestError, report_damage

QUOTED_STARTS = ("=", "+", "-", "@", "\t", "\r", "'")
"""First characters of formulas in spreadsheets, and the quote that `csv_cell` adds, so that reading is exact."""
PARTIAL = re.compile(r"\..+\.[a-z0-9_]{8}\.part(\.\w+)?|\.kerastl\.[a-z0-9_]{8}")
"""Names of files from `atomic_path` and of unfinished export folders that a killed process leaves."""
LOCK = ".lock"
"""Lock file of a run folder."""


@contextmanager
def name_file_in_errors(path: Path) -> Iterator[None]:
    """Add the file name to an `OSError`. Python names no file if the disk is full."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, then flush the file to disk and rename it to `path`.

    Args:
        path: Path of the final file. Its folder must exist. The temporary file has the same suffix.

    Raises:
        OSError: The disk is full or the folder is not writable. An existing file at `path` is unchanged.
    """
    descriptor, name = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.stem}.", suffix=f".part{path.suffix}"
    )
    os.close(descriptor)
    part = Path(name)
    try:
        with name_file_in_errors(path):
            yield part
            with part.open("rb+") as file:
                # Without fsync, the rename may reach the disk before the content does.
                os.fsync(file.fileno())
            part.chmod(0o644)
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file atomically. Text is encoded as UTF-8; errors are those of `atomic_path`."""
    data = content.encode() if isinstance(content, str) else content
    with atomic_path(path) as part:
        part.write_bytes(data)


def remove_partial_files(folder: Path, *, skip_folders_with: str) -> None:
    """Remove partial files and folders that killed processes left in a folder and its subfolders.

    Args:
        folder: A folder that the caller has locked.
        skip_folders_with: Subfolders with a file of this name are skipped, because another process may write to them.
    """
    for parent, folders, files in os.walk(folder):
        if Path(parent) != folder and skip_folders_with in files:
            folders.clear()
            continue
        for name in filter(PARTIAL.fullmatch, files):
            Path(parent, name).unlink(missing_ok=True)
        for name in filter(PARTIAL.fullmatch, tuple(folders)):
            shutil.rmtree(Path(parent, name), ignore_errors=True)
            folders.remove(name)


def is_new_or_empty(folder: Path, *ignored: str) -> bool:
    """Return whether a folder does not exist yet, or is empty.

    Args:
        folder: The folder.
        ignored: Names of files that are ignored, like lock files and the partial files of killed processes.
    """
    if not folder.is_dir():
        return not folder.exists()
    ignored = (LOCK, *ignored)
    return all(path.name in ignored or PARTIAL.fullmatch(path.name) for path in folder.iterdir())


def next_free_path(stem: str, suffix: str = "") -> Path:
    """Return `<stem><suffix>`, or the first `<stem>-<n><suffix>` from 2 that does not exist."""
    numbered = (Path(f"{stem}{f'-{number}' if number > 1 else ''}{suffix}") for number in count(1))
    return next(path for path in numbered if not path.exists())


def json_text(value: Any) -> str:
    """Return a value as indented JSON with sorted keys. NaN raises a `ValueError`."""
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write a value as `json_text`, atomically."""
    write_atomic(path, json_text(value))


def csv_cell(value: Any) -> str:
    """Return the text of a cell. Text that a spreadsheet would run as a formula is quoted: `=1+1` becomes `'=1+1`."""
    text = "" if value is None else str(value)
    if isinstance(value, str) and text.startswith(QUOTED_STARTS):
        return "'" + text
    return text


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table as UTF-8 CSV, atomically. Formulas are quoted."""
    write_atomic(path, "".join(csv_line(row) for row in (header, *rows)))


def csv_line(cells: Sequence[Any]) -> str:
    """Return one row of a CSV table with its line end. Formulas and line breaks are quoted."""
    # Before Python 3.13, csv quotes only the line breaks that occur in its line terminator. A bare "\r" would
    # start a new row when the table is read.
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow([csv_cell(cell) for cell in cells])
    return text.getvalue().removesuffix("\r\n") + "\n"


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a table that `write_csv` wrote, without the quotes before formulas.

    Raises:
        RequestError: There is no such file, it is not UTF-8 text, or a row has more or fewer cells than the header.
    """
    if not path.is_file():
        raise RequestError(f"There is no file {path}.")
    with (
        report_damage(path, "Restore it, or run the recipe again."),
        path.open(encoding="utf-8", newline="") as file,
    ):
        header, *rows = [[unquote_cell(cell) for cell in row] for row in csv.reader(file)] or [[]]
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise RequestError(f"{path}, row {number}: {len(row)} cells, but the header has {len(header)}.")
    return [dict(zip(header, row, strict=True)) for row in rows]


def unquote_cell(cell: str) -> str:
    """Return the text of a cell without the quote that `csv_cell` adds."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(QUOTED_STARTS) else cell


def append_line(path: Path, line: str) -> None:
    """Append a line to a log and flush it to disk. If the last line is incomplete, a new line is started."""
    with name_file_in_errors(path), path.open("ab+") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else "\n" + line
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def format_bytes(num_bytes: int) -> str:
    """Format a size in bytes, e.g. `3.2 GB`."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes} bytes"


MANIFEST = "manifest.json"
SAMPLES = "samples"
EXPORT_AGAIN = "Export the run again, or request a new copy of the export."
"""Remedy for a damaged export. Its user may not have the run."""


def hash_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of an export, except its manifest and samples."""
    return {name: sha256_of(folder / name) for name in sorted(_names(folder))}


def compare_hashes(
    folder: Path, expected: Mapping[str, str], *, report_added: Collection[str] | None = None
) -> str:
    """Compare the files of an export with the SHA-256 expected for each relative path.

    Args:
        folder: The export.
        expected: The SHA-256 of each file.
        report_added: Added files that are reported, if they exist. None reports all of them.

    Returns:
        The differences as text, or an empty string if there are none.
    """
    names = set(_names(folder))
    added = {*names, *_names(folder, regular=False)} - expected.keys()
    differences = {
        "is missing": expected.keys() - names,
        "was added": added if report_added is None else added.intersection(report_added),
        "was changed": {
            name for name in names & expected.keys() if sha256_of(folder / name) != expected[name]
        },
    }
    return "; ".join(f"{name} {change}" for change, files in differences.items() for name in sorted(files))


def _names(folder: Path, *, regular: bool = True) -> Iterator[str]:
    """Yield the regular files of an export, or else its pipes, its links to folders, and links that cannot be followed."""
    for path in folder.rglob("*"):
        inside = path.relative_to(folder)
        is_folder = path.is_dir() and not path.is_symlink()
        if (
            not is_folder
            and path.is_file() == regular
            and inside.as_posix() != MANIFEST
            and inside.parts[0] != SAMPLES
        ):
            yield inside.as_posix()


@contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Lock a folder with a lock file of the given name.

    Raises:
        RequestError: Another process holds the lock.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / name)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RequestError(f"{folder} is locked by another process.") from None
    try:
        yield
    finally:
        lock.release()

"""Write a file whole or not at all, so that a killed run or a full disk leaves no half file."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from kerastl.errors import RequestError

QUOTED_STARTS = ("=", "+", "-", "@", "\t", "\r", "'")
"""What a spreadsheet may take for a formula, and the quote itself, so that reading gives every text back."""


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write `content` beside `path` under a temporary name, flush it to disk, then rename it.

    Args:
        path: where; its folder must exist.
        content: bytes, or text that is written as UTF-8.

    Raises:
        OSError: the disk is full or the folder cannot be written; what stood at `path` stays.
    """
    data = content.encode() if isinstance(content, str) else content
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


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
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([csv_cell(name) for name in header])
    writer.writerows([csv_cell(cell) for cell in row] for row in rows)
    write_atomic(path, text.getvalue())


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a table that `write_csv` wrote, the quotes before formula cells taken off again.

    Raises:
        RequestError: a row has more or fewer cells than the header.
    """
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = [[_plain(cell) for cell in row] for row in csv.reader(file)] or [[]]
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise RequestError(
                f"{path}, row {number}: {len(row)} cells, the header has {len(header)}."
            )
    return [dict(zip(header, row, strict=True)) for row in rows]


def _plain(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(QUOTED_STARTS) else cell


def append_line(path: Path, line: str) -> None:
    """Append one line and flush it to disk: for logs that grow while a run goes on."""
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file as 64 hex digits, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

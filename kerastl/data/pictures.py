"""Decode every file once before the first step, so that no epoch meets a picture that cannot be read.

What is known of a file is remembered in the user's cache under a hash of its path, with its size and time:
no path, name or pixel of a picture is written there.
"""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from kerastl.errors import Problem, Problems
from kerastl.progress import track
from kerastl.runs import write_atomic

from .decode import MAX_PIXELS
from .reasons import reason_of_content
from .records import Collection, Record

RULES = "1"
"""Raised when what counts as a good picture changes: what was remembered before is then forgotten."""

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
SHOWN = 20


@dataclass(frozen=True)
class Checked:
    """What came of looking at every file.

    Args:
        collection: the pictures that can be read; a TIFF's `file` is its PNG now.
        quarantined: `(path, reason)` of those that cannot.
        has_16_bit: whether any picture is 16-bit grey, so that a window matters.
    """

    collection: Collection
    quarantined: tuple[tuple[str, str], ...]
    has_16_bit: bool


class TooManyUnreadable(Problems):
    """More files cannot be read than the recipe allows.

    Args:
        quarantined: all of them, `(path, reason)`.
        total: number of files.
        allowed: share that is allowed, 0 to 1.
    """

    def __init__(self, quarantined: Sequence[tuple[str, str]], total: int, allowed: float) -> None:
        self.quarantined = tuple(quarantined)
        shown = [Problem(path, reason) for path, reason in self.quarantined[:SHOWN]]
        if self.quarantined[SHOWN:]:
            shown.append(Problem("", f"... and {len(self.quarantined) - SHOWN} files more"))
        super().__init__(
            f"{len(self.quarantined)} of {total} files cannot be read, more than {allowed:.0%}. The data",
            shown,
            "Nothing was run. Mend or remove them, or allow more: --set data.max_unreadable_fraction=0.2",
        )


@dataclass(frozen=True)
class _Verdict:
    """Reason (empty: a good picture), whether it is 16-bit grey, and the file to read from now on."""

    reason: str
    deep: bool
    file: Path


def check_pictures(
    collection: Collection,
    *,
    max_pixels: int = MAX_PIXELS,
    cache_dir: Path,
    converted_dir: Path,
    max_unreadable_fraction: float = 0.05,
) -> Checked:
    """Decode every file once with the decoder that training uses.

    Args:
        collection: what a reader gave.
        max_pixels: height times width that is refused when exceeded.
        cache_dir: where it is remembered which files are good.
        converted_dir: where a TIFF is kept as PNG; made only when there is one.
        max_unreadable_fraction: 0 to 1.

    Raises:
        TooManyUnreadable: more than that share of the files cannot be read.
        Problems: a class has no picture left.
    """
    memory = _Memory(cache_dir / "pictures.sqlite", max_pixels)
    known = memory.recall([record.file for record in collection.records])
    fresh: dict[str, str] = {}

    def look(record: Record) -> _Verdict:
        key = known.get(record.file)
        if key is not None and key[1] is not None:
            told = json.loads(key[1])
            return _Verdict(told["reason"], told["deep"], record.file)
        verdict = _look(record, max_pixels, converted_dir)
        if key is not None and verdict.file == record.file:
            fresh[key[0]] = json.dumps({"reason": verdict.reason, "deep": verdict.deep})
        return verdict

    with ThreadPoolExecutor() as pool:
        total = len(collection.records)
        verdicts = list(track(pool.map(look, collection.records), "checking pictures", total))
    memory.keep(fresh)
    return _checked(collection, verdicts, max_unreadable_fraction)


def _checked(collection: Collection, verdicts: Sequence[_Verdict], allowed: float) -> Checked:
    pairs = list(zip(collection.records, verdicts, strict=True))
    quarantined = tuple(
        (record.path, verdict.reason) for record, verdict in pairs if verdict.reason
    )
    good = [replace(record, file=verdict.file) for record, verdict in pairs if not verdict.reason]
    if len(quarantined) > allowed * len(pairs):
        raise TooManyUnreadable(quarantined, len(pairs), allowed)
    left = {record.label for record in good}
    empty = [name for name in collection.class_names if name not in left]
    if empty:
        raise Problems(
            "The data",
            [Problem(f"class {name!r}", "has no picture left that can be read") for name in empty],
        )
    deep = any(verdict.deep for verdict in verdicts)
    return Checked(replace(collection, records=tuple(good)), quarantined, deep)


def _look(record: Record, max_pixels: int, converted_dir: Path) -> _Verdict:
    try:
        content = record.file.read_bytes()
    except PermissionError:
        return _Verdict("it may not be read: permission denied", False, record.file)
    except OSError as error:
        return _Verdict(f"it cannot be read: {error.strerror}", False, record.file)
    file = record.file
    if content.startswith(TIFF_STARTS):
        converted = png_of_tiff(content, max_pixels=max_pixels)
        if isinstance(converted, str):
            return _Verdict(converted, False, file)
        content = converted
        converted_dir.mkdir(parents=True, exist_ok=True)
        file = converted_dir / f"{hashlib.sha256(content).hexdigest()}.png"
        if not file.exists():
            write_atomic(file, content)
    reason = reason_of_content(content, window=None, max_pixels=max_pixels)
    return _Verdict(reason or "", not reason and _is_16_bit_grey(content), file)


def _is_16_bit_grey(content: bytes) -> bool:
    """Tell from a PNG's header: bit depth 16, colour type grey or grey with transparency."""
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        return False
    depth, colour = struct.unpack_from("BB", content, 24)
    return depth == 16 and colour in (0, 4)


def png_of_tiff(content: bytes, *, max_pixels: int) -> bytes | str:
    """Return the first page of a TIFF as PNG, upright, its levels kept; or why it cannot be.

    Grey pages of 16 bits stay 16-bit grey, everything else becomes 8-bit RGB or RGBA.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(content), formats=["TIFF"]) as page:
            if page.width * page.height > max_pixels:
                return f"{page.width} x {page.height} pixels are more than the {max_pixels} allowed"
            upright = ImageOps.exif_transpose(page)
            if not upright.mode.startswith("I;16"):
                if upright.mode in ("I", "F"):
                    return (
                        f"it is a TIFF of 32-bit values (mode {upright.mode}); save it with 16 bits"
                    )
                upright = upright.convert("RGBA" if "A" in upright.getbands() else "RGB")
            buffer = io.BytesIO()
            upright.save(buffer, "PNG")
            return buffer.getvalue()
    except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        return f"it is a damaged TIFF: {str(error).splitlines()[0][:100]}"


class _Memory:
    """Which files were good, by a hash of path, size and time. A damaged memory is forgotten."""

    def __init__(self, path: Path, max_pixels: int) -> None:
        self._path, self._max_pixels = path, max_pixels

    def recall(self, files: Sequence[Path]) -> dict[Path, tuple[str, str | None]]:
        """Return each file's key and what is remembered under it."""
        keys = {file: key for file in files if (key := self._key(file))}
        try:
            with closing(self._open()) as table:
                rows = dict(table.execute("SELECT key, told FROM pictures").fetchall())
        except sqlite3.Error:
            self._path.unlink(missing_ok=True)
            rows = {}
        return {file: (key, rows.get(key)) for file, key in keys.items()}

    def keep(self, fresh: dict[str, str]) -> None:
        """Remember; a memory that cannot be written costs time and nothing else."""
        try:
            with closing(self._open()) as table, table:
                table.executemany("INSERT OR REPLACE INTO pictures VALUES (?, ?)", fresh.items())
        except sqlite3.Error:
            return

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        table = sqlite3.connect(self._path, timeout=10)
        table.execute("CREATE TABLE IF NOT EXISTS pictures (key TEXT PRIMARY KEY, told TEXT)")
        return table

    def _key(self, file: Path) -> str | None:
        try:
            status = file.stat()
        except OSError:
            return None
        parts = (RULES, self._max_pixels, file, status.st_size, status.st_mtime_ns)
        return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()

"""The cache folder of the user: entries, locks, results of file checks, and pruning."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import re
import shutil
import sqlite3
import time
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import platformdirs
from filelock import BaseFileLock, FileLock, Timeout

from kerastl.errors import RequestError
from kerastl.runs import read_csv


def cache_folder() -> Path:
    """Return the cache folder of the user, `KERASTL_CACHE` or the default of the system, and create it if possible.

    If it cannot be created, file checks are not cached. Code that must store images calls `fill_entry`.
    """
    folder = Path(os.environ.get("KERASTL_CACHE") or platformdirs.user_cache_dir("kerastl"))
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


_in_use: set[Path] = set()


def entry_lock(entry: Path) -> BaseFileLock:
    """Return the lock to hold while an entry is written or removed.

    The lock file is never removed, because two processes could then hold locks on different files of this name.
    """
    return FileLock(f"{entry}.lock")


def mark_in_use(entry: Path, user: Any = None) -> None:
    """Mark an entry as in use until `user` is garbage-collected, or until the process exits if it is None.

    Call it while holding the lock of the entry. A read-only cache needs no mark, because its entries cannot be removed.
    """
    with contextlib.suppress(OSError):
        os.utime(entry)
        if user is None and entry in _in_use:
            return
        mark = FileLock(f"{entry}.{uuid.uuid4().hex[:12]}.use")
        mark.acquire(timeout=0)
        if user is None:
            _in_use.add(entry)
            atexit.register(_release, mark)
        else:
            weakref.finalize(user, _release, mark)


def fill_entry(entry: Path, *, is_complete: Callable[[], bool], write: Callable[[], object]) -> None:
    """Write an entry unless it is complete, and mark it as in use. A complete entry of a read-only cache can be read.

    Raises:
        RequestError: The entry cannot be written.
    """
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with entry_lock(entry):
            if not is_complete():
                write()
            mark_in_use(entry)
    except OSError as error:
        if not is_complete():
            raise RequestError(
                f"Cannot store images in the cache folder {entry.parent.parent}: {error.strerror or error}. "
                "Choose a writable folder with enough space: export KERASTL_CACHE=DIR"
            ) from error


def _release(mark: BaseFileLock) -> None:
    mark.release()
    with contextlib.suppress(OSError):
        Path(mark.lock_file).unlink()


def _acquire(lock: BaseFileLock) -> bool:
    """Acquire a lock if no process holds it, and return whether it was acquired."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True


def _is_alive(mark: Path) -> bool:
    """Return whether the process that created a mark is still alive. Marks of killed processes are removed."""
    lock = FileLock(mark)
    if not _acquire(lock):
        return True
    _release(lock)
    return False


FILE_NAME = "images-3.sqlite"
# Part of every key. Increase it when the decoder accepts other files or gives other reasons.
DECODER_VERSION = 6
TIMEOUT_S = 20.0


@dataclass(frozen=True)
class FileCheck:
    """Result of decoding a file.

    Args:
        reason: Why the file cannot be decoded. None if it can be decoded.
        is_16_bit: Whether the image is 16-bit grayscale.
        needs_conversion: Whether Pillow must convert the file, because TensorFlow cannot decode it.
        kind: Format of the file, e.g. `jpg`, or `animated gif`. Empty if the file cannot be decoded.
        width, height: Size of the upright image in pixels.
        is_gray: Whether the image has no color.
        sha256: Hash of the file. Empty if it cannot be decoded.
        is_permanent: Whether the result is valid as long as the file is unchanged. Errors of the system are not, and
            are not cached.
    """

    reason: str | None
    is_16_bit: bool = False
    needs_conversion: bool = False
    kind: str = ""
    width: int = 0
    height: int = 0
    is_gray: bool = False
    sha256: str = ""
    is_permanent: bool = True


COLUMNS = ("reason", "is_16_bit", "needs_conversion", "kind", "width", "height", "is_gray", "sha256")
"""The cached fields of `FileCheck`, in its order."""


def cache_key(file: Path, status: os.stat_result, max_pixels: int) -> str:
    """Return the cache key of a file, which depends on its path, size, modification time and the pixel limit."""
    parts = (DECODER_VERSION, max_pixels, os.fspath(file), status.st_size, status.st_mtime_ns)
    return hashlib.sha256("\0".join(map(str, parts)).encode(errors="surrogateescape")).hexdigest()


def read_file_checks(cache_dir: Path | None, keys: Iterable[str]) -> dict[str, FileCheck]:
    """Return the cached results of the keys. A damaged cache has none."""
    if cache_dir is None:
        return {}
    with contextlib.suppress(OSError):
        os.utime(cache_dir / FILE_NAME)  # time of last use, for `kerastl cache`
    query = f"SELECT key, {', '.join(COLUMNS)} FROM file_checks WHERE key IN (SELECT value FROM json_each(?))"
    with contextlib.suppress(sqlite3.Error), _opened(cache_dir / FILE_NAME, "ro") as connection:
        rows = connection.execute(query, [json.dumps(list(keys))])
        return {
            key: FileCheck(reason, bool(deep), bool(convert), kind, width, height, bool(gray), sha256)
            for key, reason, deep, convert, kind, width, height, gray, sha256 in rows
        }
    return {}


def write_file_checks(cache_dir: Path | None, file_checks: Mapping[str, FileCheck]) -> None:
    """Cache permanent results. A damaged cache is replaced, and a read-only cache is left unchanged."""
    file_checks = {key: check for key, check in file_checks.items() if check.is_permanent}
    if cache_dir is None or not file_checks:
        return
    file = cache_dir / FILE_NAME
    with contextlib.suppress(OSError, sqlite3.Error):
        cache_dir.mkdir(parents=True, exist_ok=True)
        with entry_lock(file):
            try:
                _write(file, file_checks)
            except sqlite3.OperationalError:
                return
            except sqlite3.DatabaseError:
                file.unlink(missing_ok=True)
                _write(file, file_checks)


def _write(file: Path, file_checks: Mapping[str, FileCheck]) -> None:
    with _opened(file, "rwc") as connection, connection:
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS file_checks (key TEXT PRIMARY KEY, {', '.join(COLUMNS)})"
        )
        rows = [(key, *(getattr(check, name) for name in COLUMNS)) for key, check in file_checks.items()]
        marks = ", ".join("?" * (1 + len(COLUMNS)))
        connection.executemany(f"INSERT OR REPLACE INTO file_checks VALUES ({marks})", rows)


def _opened(file: Path, mode: Literal["ro", "rwc"]) -> contextlib.closing[sqlite3.Connection]:
    uri = f"{file.absolute().as_uri()}?mode={mode}"
    return contextlib.closing(sqlite3.connect(uri, uri=True, timeout=TIMEOUT_S))


Kind = Literal["activations", "converted", "parquet", "phantom", "tfds", "file_checks"]
NAMES: dict[Kind, re.Pattern[str]] = {
    "activations": re.compile(r"[0-9a-f]{32}"),
    "converted": re.compile(r"[0-9a-f]{24}"),
    "parquet": re.compile(r"[0-9a-f]{24}"),
    "phantom": re.compile(r"[0-9a-f]{24}"),
    "tfds": re.compile(r"\w+-[0-9a-f]{16}"),
}
"""Names of the entries of each kind, in the folder of this name. Other files are ignored."""
PARTIAL = re.compile(r"\.(?P<owner>.+)\.[a-z0-9_]+")
"""Names of folders in which a process creates or removes an entry."""


@dataclass(frozen=True)
class Entry:
    """An entry of the cache, or a partial entry that a process is writing or left when it was killed.

    Args:
        kind: `activations` of frozen layers, `converted` images (e.g. TIFF) as PNG, images of `parquet` tables,
            `phantom` hospitals, `tfds` images of TensorFlow Datasets, or `file_checks`, the results of decoding files.
        path: Folder of the entry. A file for `file_checks`.
        num_bytes: Size on disk.
        last_used: Time of last use, in seconds since 1970.
        holds: Known contents: `network`, `boundary` (the last block before the activations), `data_set`, `images`
            (number of images, or files for `file_checks`), `views` and `precision`.
        owner: The entry that a partial entry belongs to. None for a complete entry.
    """

    kind: Kind
    path: Path
    num_bytes: int
    last_used: float
    holds: dict[str, Any]
    owner: Path | None

    @property
    def is_partial(self) -> bool:
        """Whether the entry is incomplete."""
        return self.owner is not None

    def describe(self) -> str:
        """Describe the contents, e.g. `mobilenet_v2 after block_13, 600 images, 2 views, bfloat16`."""
        if self.is_partial:
            return "partial: being written, or left by a killed process"
        holds = self.holds
        block = f" after {holds['boundary']}" if holds.get("boundary") else ""
        parts = [str(holds.get("network") or holds.get("data_set") or "") + block]
        for name, noun in (("images", "file" if self.kind == "file_checks" else "image"), ("views", "view")):
            if holds.get(name) is not None and (name, holds[name]) != ("views", 1):
                parts.append(f"{holds[name]:,} {noun}{'' if holds[name] == 1 else 's'}")
        parts.append(holds.get("precision") or "")
        return ", ".join(part for part in parts if part).strip() or "-"


def cache_entries(folder: Path | None = None) -> list[Entry]:
    """Return the entries of a cache folder (by default that of the user), the most recently used first."""
    folder = folder or cache_folder()
    entries = [entry for kind in NAMES for entry in entries_of_kind(folder / kind, kind)]
    if (folder / FILE_NAME).is_file():
        entries.append(_entry("file_checks", folder / FILE_NAME))
    return sorted(entries, key=lambda entry: (-entry.last_used, str(entry.path)))


def _entry(kind: Kind, path: Path, owner: Path | None = None) -> Entry:
    holds = _holds(kind, path) if owner is None else {}
    return Entry(kind, path, _size(path), path.stat().st_mtime, holds, owner)


def entries_of_kind(folder: Path, kind: Kind) -> Iterator[Entry]:
    """Yield the entries in the folder of one kind, sorted by name."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_symlink() or not path.is_dir():
            continue
        partial = PARTIAL.fullmatch(path.name)
        # Skip entries that another process removes meanwhile.
        with contextlib.suppress(FileNotFoundError):
            if NAMES[kind].fullmatch(path.name):
                yield _entry(kind, path)
                yield from (_entry(kind, inner, path) for inner in path.glob(".*.*"))
            elif partial and NAMES[kind].fullmatch(partial["owner"]):
                yield _entry(kind, path, folder / partial["owner"])


def _size(path: Path) -> int:
    """Return the size of a file or a folder in bytes, without partial entries inside it."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum(
        _size(inner) for inner in path.iterdir() if not (inner.is_dir() and PARTIAL.fullmatch(inner.name))
    )


def _holds(kind: Kind, path: Path) -> dict[str, Any]:
    """Return the known contents of an entry, empty if it cannot be read."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RequestError, sqlite3.Error):
        if kind == "file_checks":
            with _opened(path, "ro") as connection:
                return {"images": connection.execute("SELECT COUNT(*) FROM file_checks").fetchone()[0]}
        if kind == "activations":
            return dict(json.loads((path / "about.json").read_text(encoding="utf-8"))["holds"])
        if kind == "converted":
            return {"images": len(list(path.glob("*.png")))}
        if kind == "parquet":
            return {"images": len(list(path.iterdir()))}
        if kind == "phantom":
            return {"images": len(read_csv(path / "labels.csv"))}
        num_images = sum(len(read_csv(table)) for table in path.glob("*/index.csv"))
        return {"data_set": path.name.rpartition("-")[0], "images": num_images}
    return {}


DAY_S = 86_400.0
GB = 1e9


@dataclass(frozen=True)
class PruneResult:
    """Result of `prune_cache`.

    Args:
        removed: Entries that were removed, or would be removed in a dry run.
        in_use: Entries that were kept because a running process uses them.
        kept_bytes: Size of the remaining entries.
    """

    removed: tuple[Entry, ...]
    in_use: tuple[Entry, ...]
    kept_bytes: int


def prune_cache(
    folder: Path | None = None,
    *,
    keep_gb: float | None = None,
    older_than_days: float | None = None,
    dry_run: bool = False,
) -> PruneResult:
    """Remove the least recently used entries of a cache folder. Runs create removed entries again when needed.

    Partial entries of killed processes are always removed. Other files in the folder are not touched.

    Args:
        folder: The cache folder. None is that of the user.
        keep_gb: Remove entries until at most this many GB (10^9 bytes) remain. 0 removes all. None sets no limit.
        older_than_days: Remove entries that were not used for this many days. None sets no limit.
        dry_run: Whether to report what would be removed without removing it.

    Raises:
        OSError: An entry cannot be removed.
    """
    entries = sorted(cache_entries(folder), key=lambda entry: (not entry.is_partial, entry.last_used))
    kept_bytes = sum(entry.num_bytes for entry in entries)
    oldest = None if older_than_days is None else time.time() - older_than_days * DAY_S
    removed, in_use = [], []
    for entry in entries:
        is_old = oldest is not None and entry.last_used <= oldest
        is_over_limit = keep_gb is not None and kept_bytes > keep_gb * GB
        if not (entry.is_partial or is_old or is_over_limit or keep_gb == 0):
            continue
        if _remove(entry, dry_run=dry_run):
            removed.append(entry)
            kept_bytes -= entry.num_bytes
        elif not entry.is_partial:
            in_use.append(entry)
    return PruneResult(tuple(removed), tuple(in_use), kept_bytes)


def _remove(entry: Entry, *, dry_run: bool) -> bool:
    """Remove an entry unless it is in use or was used since it was listed. Return whether it was removed."""
    with _locked(entry) as is_unused:
        if not is_unused:
            return False
        try:
            if entry.path.stat().st_mtime > entry.last_used:
                return False
        except FileNotFoundError:
            return True
        if not dry_run:
            _delete(entry)
        return True


def is_in_use(entry: Entry) -> bool:
    """Return whether a running process writes or uses an entry."""
    with contextlib.suppress(OSError), _locked(entry) as is_unused:
        return not is_unused
    return False


@contextlib.contextmanager
def _locked(entry: Entry) -> Iterator[bool]:
    """Lock an entry, and yield whether no process writes or uses it."""
    lock = entry_lock(entry.owner or entry.path)
    if not _acquire(lock):
        yield False
        return
    try:
        # Only a process that writes the owner of a partial entry needs the partial entry.
        marks = () if entry.is_partial else entry.path.parent.glob(f"{entry.path.name}.*.use")
        yield not any(_is_alive(mark) for mark in marks)
    finally:
        lock.release()


def _delete(entry: Entry) -> None:
    folder = entry.path
    if entry.kind == "file_checks":
        folder.unlink(missing_ok=True)
        return
    if not entry.is_partial:
        # Rename first, so that a killed process leaves a partial entry and not a damaged one.
        folder = entry.path.with_name(f".{entry.path.name}.part")
        shutil.rmtree(folder, ignore_errors=True)
        entry.path.rename(folder)
    shutil.rmtree(folder)

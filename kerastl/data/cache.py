"""Where this user's images and knowledge about them are kept between runs."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import re
import shutil
import sqlite3
import time
import uuid
import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import platformdirs
from filelock import BaseFileLock, FileLock, Timeout

from kerastl.errors import RequestError


def cache_folder() -> Path:
    """Return the user's cache folder: KERASTL_CACHE, or the system's place for caches.

    It is made if need be. Where that cannot be done it is returned all the same: what is known about
    images is then not kept, which costs time only; who must keep images there raises `cache_not_writable`.
    """
    folder = Path(os.environ.get("KERASTL_CACHE") or platformdirs.user_cache_dir("kerastl"))
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def cache_not_writable(folder: Path, error: OSError) -> RequestError:
    """Return the error to raise where images must be kept in the cache and cannot be."""
    return RequestError(
        f"Images cannot be kept in the cache folder {folder}: {error.strerror or error}. "
        "Name a folder with room that can be written to, and start again: export KERASTL_CACHE=DIR"
    )


class _Process:
    """Stands for this process where nothing shorter-lived uses an entry."""


_PROCESS = _Process()
_held: set[Path] = set()


def entry_lock(entry: Path) -> BaseFileLock:
    """Return the lock of an entry: who writes or removes it holds it.

    Its file stays where it is: to remove it would let two processes hold it, each its own file of that name.
    """
    return FileLock(f"{entry}.lock")


def mark_in_use(entry: Path, user: Any = None) -> None:
    """Note that an entry is used, from now until `user` is gone; None: until the process ends.

    To be called while its lock is held, so that nobody removes the entry before this is known. Where nothing can be
    written nothing is noted: nobody can remove it from there either.
    """
    with contextlib.suppress(OSError):
        os.utime(entry)
        if user is None and entry in _held:
            return
        mark = FileLock(f"{entry}.{uuid.uuid4().hex[:12]}.use")
        mark.acquire(timeout=0)
        weakref.finalize(_PROCESS if user is None else user, _let_go, mark)
        if user is None:
            _held.add(entry)


def _let_go(mark: BaseFileLock) -> None:
    mark.release()
    with contextlib.suppress(OSError):
        Path(mark.lock_file).unlink()


@contextlib.contextmanager
def unused(entry: Path) -> Iterator[bool]:
    """Hold an entry against everybody else; tell whether that could be had: nobody writes it, nobody uses it."""
    lock = entry_lock(entry)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield not any(_is_alive(mark) for mark in entry.parent.glob(f"{entry.name}.*.use"))
    finally:
        lock.release()


def _is_alive(mark: Path) -> bool:
    """Tell whether the process that made a mark still holds it; what a killed one left is removed."""
    lock = FileLock(mark)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    _let_go(lock)
    return False


FILE_NAME = "images-1.sqlite"
# Part of every key: raise it when the decoder decides otherwise about a file than before, or says it in other words.
DECODER = 3
WAIT_S = 20.0
KEYS_A_QUERY = 500


@dataclass(frozen=True)
class FileCheck:
    """What one decoding of a file showed.

    Args:
        reason: why it cannot be used; None: it can.
        has_16_bit: a 16-bit grey image.
        to_convert: TensorFlow cannot decode it, Pillow must convert it first.
        lasting: it holds as long as the file is unchanged. False where the system refused, not the decoder:
            such a verdict is for this run only, and never written.
    """

    reason: str | None
    has_16_bit: bool = False
    needs_conversion: bool = False
    is_permanent: bool = True


def cache_key(file: Path, found: os.stat_result, max_pixels: int) -> str:
    """Return the name of a file's state: another size, time or limit is another key."""
    parts = (DECODER, max_pixels, os.fspath(file), found.st_size, found.st_mtime_ns)
    return hashlib.sha256("\0".join(map(str, parts)).encode(errors="surrogateescape")).hexdigest()


def read_file_checks(cache_dir: Path | None, keys: Iterable[str]) -> dict[str, FileCheck]:
    """Return what is known of the keys; nothing when the cache is broken."""
    wanted = list(keys)
    known: dict[str, FileCheck] = {}
    if cache_dir is None or not _is_there(cache_dir / FILE_NAME):
        return {}
    with contextlib.suppress(OSError):
        os.utime(cache_dir / FILE_NAME)  # when it was used last, for `kerastl cache`
    with contextlib.suppress(sqlite3.Error), _opened(cache_dir) as connection:
        for start in range(0, len(wanted), KEYS_A_QUERY):
            some = wanted[start : start + KEYS_A_QUERY]
            marks = ",".join("?" * len(some))
            rows = connection.execute(
                f"SELECT key, reason, deep, convert FROM file_checks WHERE key IN ({marks})", some
            )
            known |= {
                key: FileCheck(reason, bool(deep), bool(convert)) for key, reason, deep, convert in rows
            }
    return known


def _is_there(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:
        return False


def write_file_checks(cache_dir: Path | None, file_checks: Mapping[str, FileCheck]) -> None:
    """Add what was found and lasts; a broken cache is replaced, one that cannot be written is left alone."""
    file_checks = {key: one for key, one in file_checks.items() if one.is_permanent}
    if cache_dir is None or not file_checks:
        return
    for attempt in range(2):
        try:
            _write(cache_dir, file_checks)
        except sqlite3.OperationalError:
            return
        except sqlite3.DatabaseError:
            if attempt == 0:
                with contextlib.suppress(OSError):
                    (cache_dir / FILE_NAME).unlink(missing_ok=True)
                continue
        except OSError:
            return
        return


def _write(cache_dir: Path, file_checks: Mapping[str, FileCheck]) -> None:
    cache_dir.mkdir(parents=True, exist_ok=True)
    with _opened(cache_dir) as connection, connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS file_checks "
            "(key TEXT PRIMARY KEY, reason TEXT, deep INTEGER, convert INTEGER)"
        )
        connection.executemany(
            "INSERT OR REPLACE INTO file_checks VALUES (?, ?, ?, ?)",
            [(key, one.reason, one.has_16_bit, one.needs_conversion) for key, one in file_checks.items()],
        )


@contextlib.contextmanager
def _opened(cache_dir: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(cache_dir / FILE_NAME, timeout=WAIT_S)
    try:
        yield connection
    finally:
        connection.close()


Kind = Literal["activations", "phantom", "tfds", "file_checks"]
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
        kind: `activations` of frozen layers, `phantom` hospitals as drawn, `tfds`: images of TensorFlow Datasets as
            files, `file_checks`: what decoding every file once showed.
        path: its folder; of the file_checks their file.
        num_bytes: on disk.
        last_used: seconds since 1970.
        holds: as far as it is known `network`, `behind` (the block that it was made behind), `data_set`, `images` (of
            file_checks: files), `views`, `precision`.
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
        """Return in one line what it holds: `mobilenet_v2 behind block_13, 600 images, 2 views, bfloat16`."""
        if self.is_piece:
            return "a piece: being written, or left by a process that was killed"
        told = dict(self.holds)
        behind = f" behind {told['boundary']}" if told.get("boundary") else ""
        parts = [str(told.get("network") or told.get("data_set") or "") + behind]
        for name, what in (("images", "file" if self.kind == "file_checks" else "image"), ("views", "view")):
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
    found = [*_check_files(folder / FILE_NAME)]
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
            return {"images": _rows(path / "labels.csv")}
        splits = sorted(path.glob("*/index.csv"))
        return {"data_set": path.name.rpartition("-")[0], "images": sum(map(_rows, splits))}
    return {}


def _rows(table: Path) -> int:
    with table.open(encoding="utf-8", newline="") as file:
        return max(0, sum(1 for _ in csv.reader(file)) - 1)


def _check_files(file: Path) -> Iterator[Entry]:
    if not file.is_file():
        return
    found, holds = file.stat(), {}
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as opened,
    ):
        holds = {"images": opened.execute("SELECT COUNT(*) FROM file_checks").fetchone()[0]}
    yield Entry("file_checks", file, found.st_size, found.st_mtime, holds)


DAY_S = 86_400.0
GB = 1e9


@dataclass(frozen=True)
class Pruned:
    """What pruning did.

    Args:
        removed: entries that are gone, or would be.
        in_use: entries that were to go, and that a running process uses.
        kept_bytes: of all that is left.
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
) -> Pruned:
    """Remove entries of a cache folder, those not used for longest first. Nothing but entries is touched.

    What is removed is made anew when a run asks for it. Pieces that killed processes left always go.

    Args:
        folder: None: the user's.
        keep_gb: go on until no more than so many GB (10^9 bytes) are left; 0: everything. None: no limit.
        older_than_days: all that was not used for so many days. None: however old.
        dry_run: only say what would go.

    Raises:
        OSError: something cannot be removed.
    """
    found = sorted(cache_entries(folder), key=lambda one: (not one.is_piece, one.last_used))
    left = sum(one.num_bytes for one in found)
    before = None if older_than_days is None else time.time() - older_than_days * DAY_S
    removed, in_use = [], []
    for one in found:
        is_old = before is not None and one.last_used <= before
        is_too_much = keep_gb is not None and left > keep_gb * GB
        if not (one.is_piece or is_old or is_too_much or keep_gb == 0):
            continue
        if _remove(one, dry_run=dry_run):
            removed.append(one)
            left -= one.num_bytes
        elif not one.is_piece:
            in_use.append(one)
    return Pruned(tuple(removed), tuple(in_use), left)


def _remove(entry: Entry, *, dry_run: bool) -> bool:
    """Remove an entry; tell whether that could be done: nobody uses it, and nobody did since it was looked at."""
    with _guarded(entry) as is_new_or_empty:
        if not is_new_or_empty:
            return False
        try:
            if entry.path.stat().st_mtime > entry.last_used:
                return False
        except FileNotFoundError:
            return True
        if not dry_run:
            _take_away(entry)
        return True


def is_in_use(entry: Entry) -> bool:
    """Tell whether a running process writes or uses an entry."""
    with contextlib.suppress(OSError), _guarded(entry) as is_new_or_empty:
        return not is_new_or_empty
    return False


def _guarded(entry: Entry) -> contextlib.AbstractContextManager[bool]:
    """Hold an entry against everybody else, and give whether that could be had."""
    if entry.kind == "file_checks":
        return _no_writer(entry.path)
    return unused(entry.path) if entry.owner is None else _no_builder(entry.owner)


@contextlib.contextmanager
def _no_builder(owner: Path) -> Iterator[bool]:
    """A piece is nobody's where nobody writes its owner; who only reads that needs no piece."""
    try:
        with entry_lock(owner).acquire(timeout=0):
            yield True
    except Timeout:
        yield False


@contextlib.contextmanager
def _no_writer(file: Path) -> Iterator[bool]:
    """A database that is removed under its writer leaves a journal that would be played into the next one."""
    with contextlib.closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as opened:
        try:
            opened.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            yield False
            return
        except sqlite3.DatabaseError:
            pass  # broken: nobody can use it
        yield True


def _take_away(entry: Entry) -> None:
    if entry.kind == "file_checks":
        entry.path.unlink(missing_ok=True)
        return
    if entry.is_piece:
        shutil.rmtree(entry.path)
        return
    # Whole or not at all: what is left when this process is killed is a piece.
    gone = entry.path.with_name(f".{entry.path.name}.part")
    shutil.rmtree(gone, ignore_errors=True)
    entry.path.rename(gone)
    shutil.rmtree(gone)

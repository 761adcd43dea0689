"""Get the room of the cache back: what was not used for longest goes first, what a process uses stays."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import Timeout

from kerastl.data.cache_listing import Entry, cache_entries
from kerastl.data.cache_use import lock_of, unused

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
    with _guarded(entry) as is_free:
        if not is_free:
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
    with contextlib.suppress(OSError), _guarded(entry) as is_free:
        return not is_free
    return False


def _guarded(entry: Entry) -> contextlib.AbstractContextManager[bool]:
    """Hold an entry against everybody else, and give whether that could be had."""
    if entry.kind == "verdicts":
        return _no_writer(entry.path)
    return unused(entry.path) if entry.owner is None else _no_builder(entry.owner)


@contextlib.contextmanager
def _no_builder(owner: Path) -> Iterator[bool]:
    """A piece is nobody's where nobody writes its owner; who only reads that needs no piece."""
    try:
        with lock_of(owner).acquire(timeout=0):
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
    if entry.kind == "verdicts":
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

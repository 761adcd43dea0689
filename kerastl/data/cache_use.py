"""Which entries of the cache a process uses, and when each was used last; nobody takes one away meanwhile.

An entry is a folder in the cache folder, `<kind>/<entry>`. Beside it lie `<entry>.lock`, held while it is written or
removed, and one `<entry>.<number>.use` for each process that uses it, locked as long as it does: the system gives a
lock back when its process is killed.
"""

from __future__ import annotations

import contextlib
import os
import uuid
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout


class _Process:
    """Stands for this process where nothing shorter-lived uses an entry."""


_PROCESS = _Process()
_held: set[Path] = set()


def lock_of(entry: Path) -> BaseFileLock:
    """Return the lock of an entry: who writes or removes it holds it.

    Its file stays where it is: to remove it would let two processes hold it, each its own file of that name.
    """
    return FileLock(f"{entry}.lock")


def hold(entry: Path, user: Any = None) -> None:
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
    lock = lock_of(entry)
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

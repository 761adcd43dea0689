"""Hold a folder against a second writer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from kerastl.errors import RequestError


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

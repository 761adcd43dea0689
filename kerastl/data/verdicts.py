"""What was found out about each file, kept between runs: one small SQLite file in the user's cache.

It holds hashes of paths, never paths. A cache that cannot be read or written is as good as none.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

FILE_NAME = "pictures-1.sqlite"
# Part of every key: raise it when the decoder decides otherwise about a file than before, or says it in other words.
DECODER = 3
WAIT_S = 20.0
KEYS_A_QUERY = 500


@dataclass(frozen=True)
class Verdict:
    """What one decoding of a file showed.

    Args:
        reason: why it cannot be used; None: it can.
        has_16_bit: a 16-bit grey picture.
        to_convert: TensorFlow cannot decode it, Pillow must convert it first.
        lasting: it holds as long as the file is unchanged. False where the system refused, not the decoder:
            such a verdict is for this run only, and never written.
    """

    reason: str | None
    has_16_bit: bool = False
    to_convert: bool = False
    lasting: bool = True


def key_of(file: Path, found: os.stat_result, max_pixels: int) -> str:
    """Return the name of a file's state: another size, time or limit is another key."""
    parts = (DECODER, max_pixels, os.fspath(file), found.st_size, found.st_mtime_ns)
    return hashlib.sha256("\0".join(map(str, parts)).encode(errors="surrogateescape")).hexdigest()


def read_verdicts(cache_dir: Path | None, keys: Iterable[str]) -> dict[str, Verdict]:
    """Return what is known of the keys; nothing when the cache is broken."""
    wanted = list(keys)
    known: dict[str, Verdict] = {}
    if cache_dir is None or not _is_there(cache_dir / FILE_NAME):
        return {}
    with contextlib.suppress(OSError):
        os.utime(cache_dir / FILE_NAME)  # when it was used last, for `kerastl cache`
    with contextlib.suppress(sqlite3.Error), _opened(cache_dir) as connection:
        for start in range(0, len(wanted), KEYS_A_QUERY):
            some = wanted[start : start + KEYS_A_QUERY]
            marks = ",".join("?" * len(some))
            rows = connection.execute(
                f"SELECT key, reason, deep, convert FROM verdicts WHERE key IN ({marks})", some
            )
            known |= {
                key: Verdict(reason, bool(deep), bool(convert))
                for key, reason, deep, convert in rows
            }
    return known


def _is_there(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:
        return False


def write_verdicts(cache_dir: Path | None, verdicts: Mapping[str, Verdict]) -> None:
    """Add what was found and lasts; a broken cache is replaced, one that cannot be written is left alone."""
    verdicts = {key: one for key, one in verdicts.items() if one.lasting}
    if cache_dir is None or not verdicts:
        return
    for attempt in range(2):
        try:
            _write(cache_dir, verdicts)
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


def _write(cache_dir: Path, verdicts: Mapping[str, Verdict]) -> None:
    cache_dir.mkdir(parents=True, exist_ok=True)
    with _opened(cache_dir) as connection, connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS verdicts "
            "(key TEXT PRIMARY KEY, reason TEXT, deep INTEGER, convert INTEGER)"
        )
        connection.executemany(
            "INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?)",
            [(key, one.reason, one.has_16_bit, one.to_convert) for key, one in verdicts.items()],
        )


@contextlib.contextmanager
def _opened(cache_dir: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(cache_dir / FILE_NAME, timeout=WAIT_S)
    try:
        yield connection
    finally:
        connection.close()

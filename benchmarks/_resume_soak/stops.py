"""Ways to stop a run: at a random time, while a file is written, or by a full disk."""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

FILLER = "filler"


class Process:
    """A run in a process forked from this one, in which TensorFlow is imported but unused.

    Args:
        words: Arguments of `kerastl`.
        cache: Value of `KERASTL_CACHE`.
        log: File for stdout and stderr.
    """

    def __init__(self, words: list[str], cache: Path, log: Path) -> None:
        self._log, self.code = log, None
        self._pid = os.fork()
        if self._pid == 0:
            _run_command(words, cache, log)

    def ended(self) -> bool:
        """Return whether the process has ended."""
        if self.code is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code is not None

    def wait(self) -> int:
        """Wait for the process and return its exit code."""
        while not self.ended():
            time.sleep(0.05)
        assert self.code is not None
        return self.code

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        self.code = -int(signal.SIGKILL)

    def output(self) -> str:
        """Return the output of the process."""
        return self._log.read_text(errors="replace")


def _run_command(words: list[str], cache: Path, log: Path) -> None:
    """Run a command in this process and exit."""
    code = 1
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.environ["KERASTL_CACHE"] = str(cache)
        from kerastl.cli import main

        main(words)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


PARTIAL_FILES = ("checkpoint", "history", "cache entry")


def is_being_written(what: str, out: Path, cache: Path) -> bool:
    """Return whether a temporary file of one of `PARTIAL_FILES` exists."""
    locations = {
        "checkpoint": (out / "checkpoints", ".epoch-"),
        "history": (out, ".history"),
        "cache entry": (cache / "activations", "."),
    }
    return _has_prefix(*locations[what])


def _has_prefix(folder: Path, start: str) -> bool:
    try:
        return any(entry.name.startswith(start) for entry in os.scandir(folder))
    except OSError:
        return False


def wait_for(process: Process, condition: Callable[[], bool], skip: int, seconds: float) -> bool:
    """Wait for a condition to become true, after skipping `skip` earlier times. Return False if the process ends or the time is over."""
    end, before, left = time.perf_counter() + seconds, False, skip
    while time.perf_counter() < end:
        now = condition()
        if now and not before:
            if not left:
                return True
            left -= 1
        before = now
        if not now and process.ended():
            return False
        time.sleep(0.0001)
    return False


def fill(disk: Path, leave: int) -> None:
    """Fill a disk up to `leave` free bytes, while a run writes to it."""
    with (disk / FILLER).open("ab") as file:
        for _ in range(100):
            usage = os.statvfs(disk)
            free = usage.f_bavail * usage.f_frsize - leave
            if free < usage.f_frsize:
                return
            try:
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), free)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


def free_space(disk: Path) -> None:
    """Delete the file that fills the disk."""
    (disk / FILLER).unlink(missing_ok=True)


def find_unwritten_file(output: str) -> str:
    """Return the kind of file that a run could not write, according to its output."""
    if "Cannot write the activations" in output or "kerastl cache prune" in output:
        return "cache"
    match = re.search(r"left on device: (\S+)", output)
    name = Path(match[1]).name if match else ""
    kinds = {"epoch": "checkpoint", "history": "history", "timings": "timings", "model": "model"}
    return next((what for start, what in kinds.items() if name.lstrip(".").startswith(start)), "another file")

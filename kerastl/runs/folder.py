"""A run folder: a name of its own, one writer at a time, never overwritten."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kerastl.errors import RequestError
from kerastl.runs.files import write_json

LAST_FILE = "report.html"
"""Written last: a folder that holds it is a finished run."""


class Run:
    """One run folder.

    Args:
        path: the folder; absolute.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    def file(self, name: str) -> Path:
        """Return the path of one of its files."""
        return self.path / name

    @property
    def finished(self) -> bool:
        """Tell whether everything was written."""
        return self.file(LAST_FILE).is_file()

    def read_json(self, name: str) -> Any:
        """Read one of its JSON files."""
        return json.loads(self.file(name).read_text(encoding="utf-8"))

    def write_json(self, name: str, value: Any) -> None:
        """Write one of its JSON files, atomically."""
        write_json(self.file(name), value)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against a second writer.

        Raises:
            RequestError: another process is running it.
        """
        lock = FileLock(self.file(".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RequestError(f"{self.path} is being written by another process.") from None
        try:
            yield
        finally:
            lock.release()


def new_run(name: str, out: Path | None) -> Run:
    """Make a new run folder: `out`, or the first free `runs/<name>-<n>`.

    Raises:
        RequestError: `out` holds files, or the place cannot be written.
    """
    try:
        if out is not None:
            return _named(out)
        parent = Path("runs")
        parent.mkdir(exist_ok=True)
        number = 1 + max((_number(path, name) for path in parent.glob(f"{name}-*")), default=0)
        while True:
            path = parent / f"{name}-{number}"
            try:
                path.mkdir()
            except FileExistsError:  # another run took the number in between
                number += 1
                continue
            return Run(path)
    except (PermissionError, NotADirectoryError, OSError) as error:
        where = out if out is not None else Path("runs").absolute()
        raise RequestError(
            f"The run folder {where} cannot be made: {error.strerror}. Name another: --out DIR"
        ) from error


def _taken(out: Path) -> str:
    return (
        f"{out} exists already, and a run never overwrites another. "
        "Name another folder, or go on with it: --resume"
    )


def _named(out: Path) -> Run:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RequestError(_taken(out))
    out.mkdir(parents=True, exist_ok=True)
    return Run(out)


def _number(path: Path, name: str) -> int:
    digits = path.name.removeprefix(f"{name}-")
    return int(digits) if digits.isdigit() else 0


def unfinished_run(name: str, out: Path | None) -> Run:
    """Return the run to resume: `out`, or the only unfinished run of a recipe.

    Raises:
        RequestError: there is none, or more than one.
    """
    if out is not None:
        run = Run(out)
        if not run.file("recipe.resolved.yaml").is_file():
            raise RequestError(f"{out} is not a run that can be resumed: it holds no recipe.")
        return run
    found = [
        Run(path)
        for path in sorted(Path("runs").glob(f"{name}-*"))
        if (path / "recipe.resolved.yaml").is_file() and not Run(path).finished
    ]
    if not found:
        raise RequestError(f"There is no unfinished run of {name} under {Path('runs').absolute()}.")
    if len(found) > 1:
        listed = ", ".join(str(run.path) for run in found)
        raise RequestError(f"Several runs of {name} are unfinished: {listed}. Name one: --out DIR")
    return found[0]

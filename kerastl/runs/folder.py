"""A run folder: a name of its own, one writer at a time, never overwritten."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from kerastl.errors import RequestError
from kerastl.runs.files import is_new_or_empty, locked, write_json

RESOLVED_RECIPE = "recipe.resolved.yaml"
"""Written once everything is known to be right: a folder that holds it can be resumed."""
FINISHED = "finished.json"
"""Written last, by the runner alone: a folder that holds it is a finished run."""


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
        return self.file(FINISHED).is_file()

    def finish(self) -> None:
        """Write down that everything was written; without the time, so that two runs stay equal to the byte."""
        self.write_json(FINISHED, {"finished": True})

    @property
    def resume_command(self) -> str:
        """The command that goes on with it, whichever command began it: its own recipe says what was asked."""
        words = ("kerastl", "run", self.file(RESOLVED_RECIPE), "--resume", "--out", self.path)
        return shlex.join(map(str, words))

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
        with locked(self.path, ".lock"):
            yield


def create_run(name: str, out: Path | None) -> Run:
    """Make a new run folder: `out`, or the first free `runs/<name>-<n>`.

    Raises:
        RequestError: `out` holds files, or the place cannot be written.
    """
    try:
        return _named(out) if out is not None else _numbered(name)
    except OSError as error:
        where = out if out is not None else PARENT.absolute()
        raise RequestError(
            f"The run folder {where} cannot be made: {error.strerror}. Name another: --out DIR"
        ) from error


PARENT = Path("runs")
"""Where runs without a name of their own lie, in the working directory."""


def _named(out: Path) -> Run:
    if not is_new_or_empty(out):
        raise RequestError(_taken(Run(out)))
    out.mkdir(parents=True, exist_ok=True)
    return Run(out)


def _taken(run: Run) -> str:
    told = f"{run.path} exists already, and a run never overwrites another. Name another: --out DIR"
    if run.file(RESOLVED_RECIPE).is_file() and not run.finished:
        told += f"\nOr go on with the run that was stopped in it: {run.resume_command}"
    return told


def _numbered(name: str) -> Run:
    PARENT.mkdir(exist_ok=True)
    number = 1 + max((number for number, _ in _runs_of(name)), default=0)
    while True:
        path = PARENT / f"{name}-{number}"
        try:
            path.mkdir()
        except FileExistsError:  # another run took the number in between
            number += 1
            continue
        return Run(path)


def _runs_of(name: str) -> list[tuple[int, Run]]:
    """Return number and run of each `<name>-<n>`; `<name>-b-1` is none of them, as its recipe is `<name>-b`."""
    numbered = re.compile(re.escape(name) + "-([0-9]+)")
    paths = PARENT.iterdir() if PARENT.is_dir() else ()
    found = ((numbered.fullmatch(path.name), path) for path in paths)
    runs = ((int(match[1]), Run(path)) for match, path in found if match)
    return sorted(runs, key=lambda one: one[0])


def find_unfinished_run(name: str, out: Path | None, *, begun: str = RESOLVED_RECIPE) -> Run:
    """Return the run to resume: `out`, or the only unfinished run of a recipe.

    Args:
        name: of the recipe.
        out: the run folder; None: found by the name.
        begun: a file that every run of this kind holds from its beginning on.

    Raises:
        RequestError: there is none, or more than one.
    """
    if out is not None:
        run = Run(out)
        if not run.file(begun).is_file():
            raise RequestError(f"{out} is not a run that can be resumed: it holds no recipe.")
        return run
    runs = (run for _, run in _runs_of(name))
    found = [run for run in runs if run.file(begun).is_file() and not run.finished]
    if not found:
        raise RequestError(f"There is no unfinished run of {name} under {PARENT.absolute()}.")
    if len(found) > 1:
        paths = ", ".join(str(run.path) for run in found)
        raise RequestError(f"Several runs of {name} are unfinished: {paths}. Name one: --out DIR")
    return found[0]


PACKAGES = (
    "kerastl", "tensorflow", "keras", "keras-cv", "tensorflow-datasets", "numpy", "scikit-learn",
    "scikit-image", "scipy", "pillow", "h5py",
)  # fmt: skip


def package_versions() -> dict[str, str]:
    """Return the version of each package that touches the numbers, those missing left out."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine_info() -> dict[str, Any]:
    """Return what kind of machine this is; no host name and no user name."""
    return {
        "system": platform.system(),
        "release": platform.release(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }

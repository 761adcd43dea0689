"""Run folders: created under a unique name, locked while a process writes, never overwritten."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from kerastl import registry
from kerastl.errors import RequestError, in_syntax, out_option, shell_command
from kerastl.runs.files import LOCK, is_new_or_empty, locked, remove_partial_files, write_json

RESOLVED_RECIPE = "recipe.resolved.yaml"
"""Written first, and again when all values are decided. A folder with this file can be resumed."""
VERSIONS = "versions.json"
"""Written last before the training starts."""
START_AGAIN = "Start again in a new folder, without --resume."
"""Remedy for an unfinished run whose files are damaged."""
NUM_DIFFERENCES = 10
"""Maximum number of differences in the error of a refused resume."""
FINISHED = "finished.json"
"""Written last. A folder with this file is a finished run."""


class Run:
    """A run folder.

    Args:
        path: Path of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    def file(self, name: str) -> Path:
        """Return the path of a file in the folder."""
        return self.path / name

    def inner(self, name: str) -> Run:
        """Return the run of this name in the folder `runs/`."""
        return Run(self.path / "runs" / name)

    @property
    def finished(self) -> bool:
        """Whether the run wrote all its files."""
        return self.file(FINISHED).is_file()

    @property
    def finished_at(self) -> datetime:
        """When the last file of a finished run was written, in UTC."""
        return datetime.fromtimestamp(self.file(FINISHED).stat().st_mtime, UTC)

    @property
    def started(self) -> bool:
        """Whether all checks have passed and the files that a resumed run is compared with are complete."""
        return self.file(VERSIONS).is_file()

    def check_unfinished(self) -> None:
        """Raise RequestError if there is nothing to resume."""
        if self.finished:
            raise RequestError(
                f"{self.path} is finished: there is nothing to resume. For a new run, choose another folder with {out_option()}."
            )

    def finish(self) -> None:
        """Mark the run as finished. The file has no timestamp, so that repeated runs are equal to the byte."""
        self.write_json(FINISHED, {"finished": True})

    @property
    def resume_command(self) -> str:
        """The shell command that resumes the run, or the run that it is a candidate of."""
        outer = Run(self.path.parent.parent)
        if self.path.parent.name == "runs" and outer.file(RESOLVED_RECIPE).is_file():
            return outer.resume_command
        words = ("kerastl", "run", self.file(RESOLVED_RECIPE), "--resume", "--out", self.path)
        return shell_command(*words)

    def read_json(self, name: str) -> Any:
        """Read a JSON file of the folder."""
        return json.loads(self.file(name).read_text(encoding="utf-8"))

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file of the folder atomically."""
        write_json(self.file(name), value)

    @contextmanager
    def locked(self, *, resume: bool = False) -> Iterator[None]:
        """Lock the folder, so that no other process writes to it.

        Args:
            resume: Whether the run is resumed. Then it must be unfinished.

        Raises:
            RequestError: Another process holds the lock, or finished the run before it could be locked.
        """
        with locked(self.path, LOCK):
            if resume:
                self.check_unfinished()
            remove_partial_files(self.path, skip_folders_with=RESOLVED_RECIPE)
            yield


def create_run(name: str, out: Path | None) -> Run:
    """Create a run folder: `out`, or `runs/<name>-<n>` with the next number.

    Raises:
        RequestError: `out` is not empty, or the folder cannot be created.
    """
    if out is None:
        with _reported_if_uncreatable(PARENT):
            return _create_numbered(name)
    _check_empty(out)
    create_folder(out)
    return Run(out)


def create_folder(folder: Path) -> None:
    """Create a run folder and its parents, if they do not exist.

    Raises:
        RequestError: It cannot be created, for example because it is a link to a missing folder.
    """
    with _reported_if_uncreatable(folder):
        folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def _reported_if_uncreatable(folder: Path) -> Iterator[None]:
    """Report a run folder that cannot be created as a problem of the request."""
    try:
        yield
    except OSError as error:
        reason = "it is a broken link" if folder.is_symlink() else error.strerror
        raise RequestError(
            f"Cannot create the run folder {folder.absolute()}: {reason}. Choose another with {out_option()}."
        ) from error


PARENT = Path("runs")
"""Parent of the runs without `--out`, in the working directory."""


def check_run_folder(name: str, out: Path | None, *, resume: bool) -> None:
    """Check that a run can be created in its folder, or that there is one to resume. Nothing is created.

    Args:
        name: Name of the recipe.
        out: The run folder; None for `runs/<name>-<n>`.
        resume: Whether a run is resumed.

    Raises:
        RequestError: `out` is not empty, or there is no run to resume, or more than one.
    """
    if resume:
        find_unfinished_run(name, out)
    elif out is not None:
        _check_empty(out)


def _check_empty(out: Path) -> None:
    if not is_new_or_empty(out):
        run = Run(out)
        message = f"{run.path} already exists. A run never overwrites files. Choose another folder with {out_option()}."
        if run.file(RESOLVED_RECIPE).is_file() and not run.finished:
            message += f"\nTo resume the run in this folder: {run.resume_command}"
        raise RequestError(message)


def _create_numbered(name: str) -> Run:
    PARENT.mkdir(exist_ok=True)
    number = 1 + max((number for number, _ in _runs_of(name)), default=0)
    while True:
        path = PARENT / f"{name}-{number}"
        try:
            path.mkdir()
        except FileExistsError:  # another process took the number
            number += 1
            continue
        return Run(path)


def _runs_of(name: str) -> list[tuple[int, Run]]:
    """Return the number and the run of each folder `<name>-<n>`, sorted by number."""
    numbered = re.compile(re.escape(name) + "-([0-9]+)")
    paths = PARENT.iterdir() if PARENT.is_dir() else ()
    matches = ((numbered.fullmatch(path.name), path) for path in paths)
    runs = ((int(match[1]), Run(path)) for match, path in matches if match)
    return sorted(runs, key=lambda numbered_run: numbered_run[0])


def find_unfinished_run(name: str, out: Path | None, *, start_file: str = RESOLVED_RECIPE) -> Run:
    """Return the run to resume: `out`, or the only unfinished run of a recipe.

    A run that was killed before its first file has an empty folder, or none if `out` is given.

    Args:
        name: Name of the recipe.
        out: The run folder. None searches `runs/<name>-<n>`.
        start_file: The first file of a run of this type.

    Raises:
        RequestError: There is no such run, or more than one.
    """
    if out is not None:
        run = Run(out)
        if not is_new_or_empty(out) and not run.file(start_file).is_file():
            raise RequestError(
                f"Cannot resume {out}: it has other files, but no {start_file}. Choose another folder with {out_option()}."
            )
        run.check_unfinished()
        return run
    all_runs = [run for _, run in _runs_of(name)]
    runs = [run for run in all_runs if run.file(start_file).is_file() and not run.finished]
    runs = runs or [run for run in all_runs if is_new_or_empty(run.path)]
    if not runs:
        raise RequestError(f"There is no unfinished run of {name} in {PARENT.absolute()}.")
    if len(runs) > 1:
        paths = ", ".join(str(run.path) for run in runs)
        raise RequestError(f"Several runs of {name} are unfinished: {paths}. Select one with {out_option()}.")
    return runs[0]


def finished_runs(folder: Path) -> list[Run]:
    """Return the finished runs in a folder and its subfolders, the newest first.

    Runs in the folder of another run are part of it and are not listed. Links to folders are not followed.

    Raises:
        RequestError: The folder does not exist.
    """
    if not folder.is_dir():
        raise RequestError(f"Folder not found: {folder}. Specify a folder that contains run folders.")
    runs = []
    for path, subfolders, files in os.walk(folder):
        if FINISHED in files:
            runs.append(Run(Path(path)))
        if RESOLVED_RECIPE in files:
            subfolders.clear()
    return sorted(runs, key=lambda run: (run.finished_at, run.path), reverse=True)


PACKAGES = (
    "kerastl", "tensorflow", "keras", "keras-cv", "tensorflow-datasets", "numpy", "scikit-learn",
    "scikit-image", "scipy", "pillow", "h5py",
)  # fmt: skip


def package_versions() -> dict[str, str]:
    """Return the version of each installed package that can affect the results."""
    versions = {}
    for name in (*PACKAGES, *sorted(registry.plugin_packages())):
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def machine_info() -> dict[str, Any]:
    """Describe the machine, without its host name or user name."""
    return {
        "system": platform.system(),
        "release": platform.release(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def refuse_changes(folder: Path, changes: Sequence[str]) -> None:
    """Raise RequestError with the first changes since the run or curve was started, if there are any."""
    if changes:
        more = len(changes) - NUM_DIFFERENCES
        lines = [*changes[:NUM_DIFFERENCES], *([f"... and {more} more"] if more > 0 else [])]
        raise RequestError(
            "\n  ".join([f"{folder} cannot be resumed:", *lines])
            + f"\nUndo the changes, or start again in a new folder {in_syntax('without --resume', 'with resume=False')}."
        )

"""A table that grows in a folder beside the file it becomes, so that a killed command can go on. No TensorFlow.

`answers.csv` grows in `answers.csv.part/`: `question.json` says what was asked, `rows` is the table, `progress` has a
line a batch, `files bytes bad`: what is whole. A batch counts once its rows are on the disk and its line is written.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

from kerastl.errors import Problem, Problems, RequestError, RunFailed, naming_damage
from kerastl.export.predicting.work import Answered
from kerastl.progress import say
from kerastl.runs import locked, write_json

QUESTION, ROWS, PROGRESS, LOCK = "question.json", "rows", "progress", "lock"
FILES = (QUESTION, ROWS, PROGRESS, LOCK)
LINE = re.compile(rb"(\d+) (\d+) (\d+)\n")


@dataclass(frozen=True)
class Question:
    """What must be the same for a table to be gone on with.

    Args:
        model: fingerprint of the model.
        files: sha256 of the list of files.
        num_files: how many.
        batch_size: files that are answered together.
        kind: of the table.
        versions: of the packages that touch the numbers.
    """

    model: str
    files: str
    num_files: int
    batch_size: int
    kind: str
    versions: dict[str, str]


@dataclass(frozen=True)
class Done:
    """What is whole.

    Args:
        num_files: how many have their row.
        num_bytes: length of the table up to there.
        num_bad: how many of the files gave no picture.
    """

    num_files: int = 0
    num_bytes: int = 0
    num_bad: int = 0


@dataclass
class Part:
    """A table that grows. Made by `open_part`."""

    folder: Path
    done: Done
    _rows: BinaryIO = field(repr=False)
    _progress: BinaryIO = field(repr=False)

    @property
    def rows(self) -> Path:
        """The table so far."""
        return self.folder / ROWS

    def append(self, answered: Answered) -> None:
        """Add the rows of one batch.

        Raises:
            RunFailed: the disk is full.
        """
        content = answered.text.encode()
        done = Done(
            self.done.num_files + answered.num_files,
            self.done.num_bytes + len(content),
            self.done.num_bad + len(answered.problems),
        )
        with naming_a_full_disk(self.folder):
            self._rows.write(content)
            self._rows.flush()
            # The line below may reach the disk by itself: what it vouches for must be there first.
            os.fsync(self._rows.fileno())
            line = f"{done.num_files} {done.num_bytes} {done.num_bad}\n"
            self._progress.write(line.encode())
            self._progress.flush()
        self.done = done


def part_folder(out: Path) -> Path:
    """Return where a table grows."""
    return out.with_name(f"{out.name}.part")


def check_free(out: Path, resume: bool) -> None:
    """Refuse to begin where something is in the way, or to go on where nothing was begun.

    Raises:
        RequestError: which of these.
    """
    if not out.name:
        raise RequestError(f"--out {out} names a folder, not a file: --out FILE")
    parent, folder = out.absolute().parent, part_folder(out)
    if not parent.is_dir():
        raise RequestError(f"There is no folder {parent} to write {out.name} into.")
    if out.exists():
        raise RequestError(f"{out} exists already and is left as it is. Name another: --out FILE")
    if resume and not folder.is_dir():
        raise RequestError(f"There is no {folder} to go on with. Leave out --resume.")
    links = [one for one in (folder, *(folder / name for name in FILES)) if one.is_symlink()]
    if resume and links:
        raise RequestError(
            f"{links[0]} is a link, and what it leads to is left as it is. Remove it and begin anew."
        )
    if not resume and folder.exists():
        raise RequestError(
            f"{folder} holds answers of a command that did not end, or that still runs, and is left as it is. Go on with it: "
            "the same command with --resume, which is refused while another writes it. If none does, you may remove it."
        )


@contextmanager
def open_part(out: Path, question: Question, header: str, *, resume: bool) -> Iterator[Part]:
    """Begin a table, or go on with one; only this process writes to it meanwhile.

    When what is inside fails, what was answered stays, and that is said; a folder without an answer is removed.

    Args:
        out: the file that it becomes.
        question: what is asked.
        header: what stands above the rows.
        resume: go on with the one that is there.

    Raises:
        RequestError: nothing to go on with, something in the way, or something else was asked before.
        RunFailed: the disk is full.
    """
    folder = part_folder(out)
    check_free(out, resume)
    if not resume:
        with naming_a_full_disk(folder):
            folder.mkdir()
    with locked(folder, LOCK):
        part = _opened(folder, question, header, resume)
        try:
            yield part
        except BaseException:
            if part.done.num_files:
                say(
                    f"The answers for {part.done.num_files:,} of {question.num_files:,} files are kept in {folder}: "
                    "the same command with --resume goes on."
                )
            raise
        finally:
            _close(part)


def finish(part: Part, table: Path, out: Path) -> None:
    """Let the whole table stand at `out` at once, and remove the folder it grew in.

    Args:
        part: of which every file has its row.
        table: in the folder: the rows themselves, or what was made of them.
        out: where nothing stands.

    Raises:
        RequestError: something stands there by now.
    """
    if out.exists():
        raise RequestError(f"{out} was written meanwhile and is left as it is: move it away.")
    table.replace(out)
    shutil.rmtree(part.folder)


def _opened(folder: Path, question: Question, header: str, resume: bool) -> Part:
    try:
        with naming_a_full_disk(folder):
            if not resume:
                _begin(folder, question, header)
            return _read(folder, question)
    except BaseException:
        if not resume:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _begin(folder: Path, question: Question, header: str) -> None:
    content = header.encode()
    (folder / ROWS).write_bytes(content)
    (folder / PROGRESS).write_text(f"0 {len(content)} 0\n")
    write_json(folder / QUESTION, asdict(question))


def _read(folder: Path, question: Question) -> Part:
    """Open a part at the end of what is whole; what was written behind it is cut off."""
    with naming_damage(folder, "Remove it and begin anew."):
        try:
            before = Question(**json.loads((folder / QUESTION).read_text(encoding="utf-8")))
            lines = list(LINE.finditer((folder / PROGRESS).read_bytes()))
        except FileNotFoundError as error:
            raise ValueError(f"{Path(error.filename).name} is missing") from error
        _check_same(folder, before, question)
        if not lines:
            raise ValueError(f"{PROGRESS} tells of no row")
        done = Done(*(int(number) for number in lines[-1].groups()))
        _check_whole(folder / ROWS, done, question)
    rows, progress = (folder / ROWS).open("rb+"), (folder / PROGRESS).open("rb+")
    for file, length in ((rows, done.num_bytes), (progress, lines[-1].end())):
        file.truncate(length)
        file.seek(length)
    return Part(folder, done, rows, progress)


def _check_whole(rows: Path, done: Done, question: Question) -> None:
    """Raise ValueError where the rows cannot be those of whole batches."""
    ends = done.num_files == question.num_files or done.num_files % question.batch_size == 0
    if done.num_files > question.num_files or not ends:
        raise ValueError(f"{done.num_files} files are said to be answered, which is no whole batch")
    with rows.open("rb") as file:
        file.seek(max(0, done.num_bytes - 1))
        if done.num_bytes and file.read(1) != b"\n":
            raise ValueError("rows are missing")


def _check_same(folder: Path, before: Question, now: Question) -> None:
    problems = []
    if now.model != before.model:
        problems.append(Problem("", "it was begun with another model"))
    if now.files != before.files:
        counts = f"{now.num_files:,} files now, {int(before.num_files):,} then"
        same = "as many files, with other names or in another order"
        other = same if now.num_files == before.num_files else counts
        problems.append(Problem("", f"it was begun with another list of files: {other}"))
    if now.batch_size != before.batch_size:
        problems.append(Problem("--batch-size", f"was {before.batch_size}, is {now.batch_size}"))
    if now.kind != before.kind:
        problems.append(Problem("", f"it was to become {before.kind}, now {now.kind}"))
    names = sorted(now.versions.keys() | before.versions.keys())
    for name in names:
        versions = before.versions.get(name), now.versions.get(name)
        if versions[0] != versions[1]:
            problems.append(Problem(name, f"was {versions[0]}, is {versions[1]}"))
    if problems:
        footer = (
            "Ask as it was asked then, or remove the folder and begin anew. Nothing was written."
        )
        raise Problems(f"To go on with {folder}", problems, footer)


@contextmanager
def naming_a_full_disk(folder: Path) -> Iterator[None]:
    """Let an error of the disk say which folder it is about."""
    try:
        yield
    except OSError as error:
        raise RunFailed(f"{folder} cannot be written: {error.strerror or error}.") from error


def _close(part: Part) -> None:
    for file in (part._rows, part._progress):
        with suppress(OSError):  # on a full disk, closing tries once more to write
            file.close()
    if not part.done.num_files:
        shutil.rmtree(part.folder, ignore_errors=True)

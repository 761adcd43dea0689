"""The whole way of a table: check what was asked, answer every file, write what can be gone on with."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TextIO

from kerastl.errors import Problem, Problems, RequestError
from kerastl.export.predicting.file_list import FileList
from kerastl.export.predicting.models import AskedModel, asked_model
from kerastl.export.predicting.parquet import check_parquet, write_parquet
from kerastl.export.predicting.part import (
    Question,
    check_free,
    finish,
    naming_a_full_disk,
    open_part,
)
from kerastl.export.predicting.rows import CSV, JSON, header
from kerastl.export.predicting.work import Answered, ModelWork, answer
from kerastl.progress import say, speed_bar
from kerastl.runs import package_versions

PARQUET = "parquet"
MOST_SHOWN = 20


@dataclass(frozen=True)
class TableRequest:
    """How a table of answers is made.

    Args:
        kind: `csv`, `json` (lines) or `parquet`.
        out: where it is to stand; None: it is written to a stream.
        resume: go on with one that was not finished.
        processes: at least 1.
        batch_size: files that are answered together, at least 1.
        prepare: a function of a module, called in each process before TensorFlow is loaded.
    """

    kind: str
    out: Path | None
    resume: bool
    processes: int
    batch_size: int
    prepare: Callable[[], None]


def kind_of(out: Path | None, as_json: bool) -> str:
    """Return the kind of a table: that of its name, else JSON lines where they are wanted, else CSV."""
    if out is not None and out.suffix.lower() == f".{PARQUET}":
        return PARQUET
    return JSON if as_json else CSV


def check_request(model: Path, request: TableRequest) -> AskedModel:
    """Return the model that is meant. Nothing is written or loaded.

    Raises:
        RequestError: with everything that is wrong with the model and with `out`.
    """
    wrong, asked = [], None
    if request.out is not None:
        wrong += _said(partial(check_free, request.out, request.resume))
    if request.kind == PARQUET:
        wrong += _said(check_parquet)
    try:
        asked = asked_model(model)
    except RequestError as error:
        wrong.append(str(error))
    if len(wrong) > 1:
        raise Problems("The request", [Problem("", one) for one in wrong], "Nothing was written.")
    if asked is None or wrong:
        raise RequestError(*wrong)
    return asked


def _said(check: Callable[[], None]) -> list[str]:
    try:
        check()
    except RequestError as error:
        return [str(error)]
    return []


def write_table(model: AskedModel, files: FileList, request: TableRequest, stream: TextIO) -> int:
    """Answer every file and write its row, in the order of the list.

    Args:
        model: as `check_request` returned it.
        files: at least one.
        request: as it was checked.
        stream: takes the table where `request.out` is None.

    Returns:
        How many files gave no picture.

    Raises:
        KerastlError: the model cannot be opened, a process died, the disk is full. What was answered is kept.
    """
    if request.out is not None:
        return _to_file(model, files, request, request.out)
    # Above the first answer: a model that fails leaves nothing that looks like a table.
    above, bad = header(request.kind, model.class_names), 0
    with closing(_answers(model, files, request)) as answers:
        for one in answers:
            stream.write(above + one.text)
            above, bad = "", bad + len(one.problems)
    return bad


def _to_file(model: AskedModel, files: FileList, request: TableRequest, out: Path) -> int:
    question = Question(
        model=model.fingerprint(), files=files.sha256, num_files=files.count,
        batch_size=request.batch_size, kind=request.kind, versions=package_versions(),
    )  # fmt: skip
    above = header(_grown(request.kind), model.class_names)
    with open_part(out, question, above, resume=request.resume) as part:
        # Closed before anything else: no process goes on where this one failed.
        with closing(_answers(model, files, request, part.done.num_files)) as answers:
            for one in answers:
                part.append(one)
        table = part.rows
        if request.kind == PARQUET:
            table = part.folder / PARQUET
            with naming_a_full_disk(part.folder):
                write_parquet(part.rows, table, model.class_names)
        finish(part, table, out)
        return part.done.num_bad


def _answers(
    model: AskedModel, files: FileList, request: TableRequest, first: int = 0
) -> Generator[Answered, None, None]:
    """Yield what is still to be answered, with a bar; nothing is loaded where that is nothing."""
    num_batches = -(-(files.count - first) // request.batch_size)
    if not num_batches:
        return
    work = ModelWork(model, _grown(request.kind), request.prepare)
    batches = files.batches(request.batch_size, first=first)
    processes = min(request.processes, num_batches)
    with (
        closing(answer(work, batches, processes=processes)) as answers,
        speed_bar("predicting", "files", files.count, first) as advance,
    ):
        for one in _with_problems_said(answers):
            yield one
            advance(one.num_files)


def _grown(kind: str) -> str:
    """Return the kind of the lines that grow."""
    return JSON if kind == PARQUET else kind


def _with_problems_said(answers: Iterable[Answered]) -> Iterator[Answered]:
    """Name the first files that gave no picture on stderr; the table names all."""
    said = 0
    for one in answers:
        for path, problem in one.problems[: MOST_SHOWN - said]:
            say(f"Cannot read {path}: {problem}")
        said = min(MOST_SHOWN, said + len(one.problems))
        yield one

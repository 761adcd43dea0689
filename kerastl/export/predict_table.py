"""Write predictions to a table that can be resumed: CSV, JSON lines or Parquet.

`predictions.csv` is written to the folder `predictions.csv.part`: `rows` grows by one batch at a time. After
each batch `progress.json` records how much of `rows` is complete, and for which request, so that only the
same request is resumed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Literal, TextIO

from kerastl.console import print_status, progress_bar
from kerastl.data.convert import no_pillow_warnings
from kerastl.data.parquet import check_parquet
from kerastl.errors import Problem, RequestError, RunFailed, pluralize, raise_problems, report_damage
from kerastl.export.predict import (
    MAX_REPORTED,
    MODEL_COLUMNS,
    FileList,
    FilePrediction,
    ModelOnDisk,
    find_predictor,
    map_ahead,
    predict_batch,
)
from kerastl.runs import csv_line, is_new_or_empty, locked, package_versions, write_json
from kerastl.tasks import SINGLE_LABEL

TableFormat = Literal["csv", "json", "parquet"]
FILES = PROGRESS, ROWS, PARQUET, LOCK = "progress.json", "rows", "parquet", "lock"
FIRST_COLUMNS = ("path", "predicted", "confidence", "problem")
CELLS_PER_GROUP = 2**19
"""The number of Parquet cells that are held in memory and written as one row group."""


@dataclass(frozen=True)
class TableRequest:
    """The settings that determine the bytes of a table.

    Args:
        model: sha256 of the model.
        files: sha256 of the list of files.
        num_files: The number of files.
        batch_size: The number of files that are predicted together.
        table_format: `csv`, `json` (one object per line) or `parquet`.
        versions: Versions of the packages that affect the numbers.
        model_version: The version of the export, which is in each row, or "".
    """

    model: str
    files: str
    num_files: int
    batch_size: int
    table_format: str
    versions: dict[str, str]
    model_version: str = ""


@dataclass
class PartialTable:
    """A table that is being written. Created by `open_partial_table`.

    Args:
        folder: The `.part` folder.
        request: What determines the bytes of the table.
        counts: The number of rows by predicted class, and of files that could not be read by "".
    """

    folder: Path
    request: TableRequest
    _file: BinaryIO = field(repr=False)
    _digest: Any = field(default_factory=hashlib.sha256, repr=False)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def num_rows(self) -> int:
        """The number of files whose row is written."""
        return self.counts.total()

    def append(self, text: str, counts: Counter[str]) -> None:
        """Append the rows of one batch, flush them to disk, and record that they are complete.

        Raises:
            RunFailed: If the disk is full.
        """
        content = text.encode()
        with _disk_errors_of(self.folder):
            self._file.write(content)
            self._file.flush()
            os.fsync(self._file.fileno())
            self._digest.update(content)
            counts = self.counts + counts
            rows = {"num_bytes": self._file.tell(), "sha256": self._digest.hexdigest()}
            write_json(self.folder / PROGRESS, {"request": asdict(self.request), "counts": counts, **rows})
        self.counts = counts


def table_format_of(out: Path | None, as_json: bool) -> TableFormat:
    """Return the format for a file name: Parquet by suffix, else JSON lines if requested, else CSV.

    Raises:
        RequestError: The name is that of another format.
    """
    suffix = "" if out is None else out.suffix.lower()
    if suffix in (".xlsx", ".xls", ".ods") or (suffix in (".json", ".jsonl") and not as_json):
        raise RequestError(
            f"--out {out}: this format is not written. Name the file .csv or .parquet, or use --json for JSON lines."
        )
    if suffix == ".parquet":
        return "parquet"
    return "json" if as_json else "csv"


def check_request(model: Path, table_format: TableFormat, out: Path | None, resume: bool) -> ModelOnDisk:
    """Find the model and check the output, before anything is loaded or written.

    Raises:
        RequestError: With all problems of the model and of `out`.
    """
    checks: list[Callable[[], object]] = [partial(find_predictor, model)]
    if table_format == "parquet":
        checks.insert(0, check_parquet)
    if out is not None:
        checks.insert(0, partial(check_output, out, resume))
    problems = []
    result: object = None
    for check in checks:
        try:
            result = check()
        except RequestError as error:
            problems.append(str(error))
    if len(problems) == 1:
        raise RequestError(problems[0])
    raise_problems("The request", [Problem("", text) for text in problems], "Nothing was written.")
    assert isinstance(result, ModelOnDisk)
    return result


def check_output(out: Path, resume: bool) -> None:
    """Refuse to overwrite a file, to write to a folder with other files, or to follow a link.

    Raises:
        RequestError: The output cannot be written. The message states how to fix it.
    """
    if not out.name:
        raise RequestError(f"--out {out} is a folder. Specify a file: --out FILE")
    parent, folder = out.absolute().parent, part_folder(out)
    if not parent.is_dir():
        raise RequestError(f"The folder {parent} for {out.name} does not exist.")
    if not os.access(parent, os.W_OK):
        raise RequestError(f"The folder {parent} cannot be written. Choose another: --out FILE")
    if out.exists() and resume:
        raise RequestError(f"{out} is complete: there is nothing to resume.")
    if out.exists():
        raise RequestError(f"{out} already exists and is not overwritten. Choose another: --out FILE")
    if not resume and folder.exists():
        raise RequestError(
            f"{folder} contains predictions of a command that was interrupted or is still running. Continue it with the same "
            "command and --resume, or delete the folder."
        )
    for path in (folder, *(folder / name for name in FILES)):
        # Opening it could truncate any file of this user.
        if resume and path.is_symlink():
            raise RequestError(f"{path} is a link and is not followed. Delete it and start again.")
    if not is_new_or_empty(folder, *FILES):
        raise RequestError(f"{folder} contains other files than predictions. Choose another: --out FILE")


def part_folder(out: Path) -> Path:
    """Return the folder in which a table is written."""
    return out.with_name(f"{out.name}.part")


def write_table(
    model: ModelOnDisk,
    files: FileList,
    table_format: TableFormat,
    stream: TextIO,
    *,
    out: Path | None,
    resume: bool,
    batch_size: int,
) -> Counter[str]:
    """Predict every file and write one row each, in the order of the list.

    Args:
        model: As `check_request` returned it.
        files: At least one.
        table_format: As `table_format_of` returned it.
        stream: Receives the table if `out` is None.
        out: The file to write.
        resume: Whether to continue a table that was interrupted.
        batch_size: The number of files that are predicted together.

    Returns:
        The number of files by predicted class, and of files that could not be read by "".

    Raises:
        KerastlError: If the model cannot be loaded or the disk is full. Finished rows are kept.
    """
    header = csv_line(columns(model.class_names)) if table_format == "csv" else ""
    total: Counter[str] = Counter()
    if out is None:
        # Printed with the first row: a model that fails leaves no empty table.
        with closing(_predict_rows(model, files, batch_size, table_format)) as batches:
            for text, counts in batches:
                stream.write(header + text)
                header = ""
                total += counts
        return total
    request = TableRequest(
        model.sha256(), files.sha256, files.count, batch_size, table_format, package_versions(), model.version
    )
    with open_partial_table(out, request, header, resume=resume) as table:
        with closing(_predict_rows(model, files, batch_size, table_format, table.num_rows)) as batches:
            for batch in batches:
                table.append(*batch)
        finished = table.folder / ROWS
        if table_format == "parquet":
            finished = table.folder / PARQUET
            with _disk_errors_of(table.folder):
                write_parquet(table.folder / ROWS, finished, model.class_names)
        if out.exists():
            raise RequestError(f"{out} was created in the meantime and is not overwritten. Move it.")
        finished.replace(out)
        shutil.rmtree(table.folder)
        return table.counts


def _predict_rows(
    model: ModelOnDisk, files: FileList, batch_size: int, table_format: str, first: int = 0
) -> Generator[tuple[str, Counter[str]], None, None]:
    """Yield the rows of each batch starting with file number `first`, and report progress and the first problems.

    For each batch, yield its text and the number of rows by predicted class, which is "" for unreadable files.
    """
    num_reported, num_16_bit = 0, 0
    if first == files.count:
        return
    predictor = model.load()
    identity = model.identity(predictor)
    batches = files.batches(batch_size, first=first)
    with (
        no_pillow_warnings(),
        closing(map_ahead(partial(predict_batch, predictor), batches)) as predictions,
        progress_bar("predicting", "files", files.count, first) as advance,
    ):
        for batch in predictions:
            unreadable = [row for row in batch if row.problem]
            for row in unreadable[: MAX_REPORTED - num_reported]:
                print_status(f"Cannot read {row.path}: {row.problem}")
                num_reported += 1
            num_16_bit += sum(row.is_16_bit for row in batch)
            counts = Counter(row.predicted for row in batch)
            yield format_rows(table_format, batch, model.class_names, identity), counts
            advance(len(batch))
    if num_16_bit and not model.has_window:
        print_status(
            f"Warning: the model has no window for {pluralize(num_16_bit, '16-bit file')}. Their full range, 0 to 65535, was "
            "used: 12-bit values are nearly black. Convert the files to 8 bits as the training images were."
        )


def columns(class_names: Sequence[str]) -> list[str]:
    """Return the column names of a table."""
    return [*FIRST_COLUMNS, *SINGLE_LABEL.columns(class_names), *MODEL_COLUMNS]


def format_rows(
    table_format: str, rows: Sequence[FilePrediction], class_names: Sequence[str], identity: Mapping[str, str]
) -> str:
    """Return rows as CSV (six digits per probability) or, for JSON and Parquet, as JSON lines (all digits).

    Args:
        table_format: `csv`, `json` or `parquet`.
        rows: One per file.
        class_names: The class names, in the order of the probabilities.
        identity: The value of each of `MODEL_COLUMNS`, which is the same in all rows.
    """
    objects = [{**_as_object(row, class_names), **identity} for row in rows]
    if table_format != "csv":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in objects)
    lines = []
    for row in objects:
        probabilities = row.get("probabilities") or dict.fromkeys(class_names)
        numbers = [row.get("confidence"), *probabilities.values()]
        confidence, *others = ["" if number is None else f"{number:.6g}" for number in numbers]
        first = [row["path"], row.get("predicted"), confidence, row.get("problem")]
        lines.append(csv_line([*first, *others, *(identity[name] for name in MODEL_COLUMNS)]))
    return "".join(lines)


def _as_object(row: FilePrediction, class_names: Sequence[str]) -> dict[str, Any]:
    if row.problem:
        return {"path": row.path, "problem": row.problem}
    probabilities = dict(zip(class_names, row.probabilities, strict=True))
    confidence = probabilities[row.predicted]
    return {
        "path": row.path, "predicted": row.predicted, "confidence": confidence, "probabilities": probabilities,
    }  # fmt: skip


@contextmanager
def open_partial_table(
    out: Path, request: TableRequest, header: str, *, resume: bool
) -> Iterator[PartialTable]:
    """Create or resume the table that becomes `out`, locked against other processes.

    If the body fails, finished rows are kept and the way to resume is printed. Without rows, the folder is
    deleted.

    Args:
        out: The file to write.
        request: Must equal the request of the table that is resumed.
        header: The text above the first row.
        resume: Whether to continue a table that was interrupted, or to start it if no row was written.

    Raises:
        RequestError: If the table is complete, or if it belongs to a different request.
        RunFailed: If the disk is full.
    """
    folder = part_folder(out)
    check_output(out, resume)
    with _disk_errors_of(folder):
        folder.mkdir(exist_ok=resume)
    with locked(folder, LOCK):
        table = None
        try:
            with _disk_errors_of(folder):
                if (folder / PROGRESS).is_file():
                    table = _resume_table(folder, request)
                else:
                    # New, or interrupted before the first row.
                    table = PartialTable(folder, request, (folder / ROWS).open("wb"))
                    table.append(header, Counter())
            yield table
        except BaseException:
            if table is not None and table.num_rows:
                print_status(
                    f"The predictions for {table.num_rows:,} of {request.num_files:,} files are kept in {folder}. "
                    "Run the same command with --resume to continue."
                )
            elif table is not None or not (folder / PROGRESS).is_file():
                shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            if table is not None:
                with suppress(OSError):  # closing flushes again, which fails again if the disk is full
                    table._file.close()


def _resume_table(folder: Path, request: TableRequest) -> PartialTable:
    """Open the rows after the last complete batch. An incomplete batch is truncated."""
    with report_damage(folder, "Delete it and start again."), ExitStack() as stack:
        try:
            progress = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
            _check_same(folder, TableRequest(**progress["request"]), request)
            rows = stack.enter_context((folder / ROWS).open("rb+"))
        except FileNotFoundError as error:
            raise ValueError(f"{Path(error.filename).name} is missing") from error
        rows.truncate(progress["num_bytes"])
        digest = hashlib.file_digest(rows, "sha256")
        if digest.hexdigest() != progress["sha256"]:
            raise ValueError(f"{ROWS} was changed")
        counts = Counter({str(name): int(count) for name, count in progress["counts"].items()})
        table = PartialTable(folder, request, rows, digest, counts)
        stack.pop_all()
    return table


def _check_same(folder: Path, before: TableRequest, now: TableRequest) -> None:
    """Refuse to mix the predictions of two requests."""
    problems = []
    if now.model != before.model:
        reason = "it is a different run or export, or was exported again, which changes its files"
        problems.append(Problem("", f"the model changed: {reason}"))
    if now.files != before.files:
        same = "the same number of files, but with different names or in a different order"
        counts = f"{now.num_files:,} files now, {int(before.num_files):,} before"
        detail = same if now.num_files == before.num_files else counts
        problems.append(Problem("", f"the list of files changed: {detail}"))
    old, new = (
        {
            "--batch-size": request.batch_size,
            "format": request.table_format,
            "model_version": request.model_version or "empty",
        }
        | request.versions
        for request in (before, now)
    )
    problems += [
        Problem(name, f"was {old.get(name)}, is {new.get(name)}")
        for name in old | new
        if old.get(name) != new.get(name)
    ]
    footer = "Repeat the first request, or delete the folder and start again. Nothing was written."
    raise_problems(f"Resuming {folder}", problems, footer)


def write_parquet(rows: Path, out: Path, class_names: Sequence[str]) -> None:
    """Convert JSON lines to Parquet, one row group at a time.

    Args:
        rows: JSON lines as `format_rows` returns them.
        out: Has the columns of the CSV: text, and float32 probabilities. Missing values are null.
        class_names: Class names in the order of the columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = columns(class_names)
    texts = {*FIRST_COLUMNS, *MODEL_COLUMNS} - {"confidence"}
    schema = pa.schema([(name, pa.string() if name in texts else pa.float32()) for name in names])
    size = max(1, CELLS_PER_GROUP // len(names))
    with rows.open(encoding="utf-8", newline="\n") as file, pq.ParquetWriter(out, schema) as writer:
        while group := [json.loads(line) for line in islice(file, size)]:
            writer.write_table(pa.Table.from_pylist([_by_column(row) for row in group], schema=schema))
    with out.open("rb+") as written:
        os.fsync(written.fileno())


def _by_column(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the JSON lines with one key per column."""
    probabilities = row.pop("probabilities", {})
    return row | dict(zip(SINGLE_LABEL.columns(probabilities), probabilities.values(), strict=True))


@contextmanager
def _disk_errors_of(folder: Path) -> Iterator[None]:
    """Raise disk errors as RunFailed with the name of the folder."""
    try:
        yield
    except OSError as error:
        raise RunFailed(f"{folder} cannot be written: {error.strerror or error}.") from error

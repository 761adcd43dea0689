"""`kerastl predict`: answers for files and folders, as a table."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import click

from kerastl.cli._paths import NamedPath
from kerastl.errors import RequestError

if TYPE_CHECKING:
    from kerastl.export.predicting.file_list import FileList

NOTHING_READ = 1
MOST_PROCESSES = 256
LARGEST_BATCH = 4096


@click.command()
@click.argument("model", metavar="RUN|EXPORT", type=NamedPath())
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=NamedPath())
@click.option(
    "--list", "list_file", type=NamedPath(allow_dash=True), metavar="FILE",
    help="Files to predict, one path a line; - reads them from stdin.",
)  # fmt: skip
@click.option(
    "--out", type=NamedPath(),
    help="Write the table here, not to stdout: Parquet where the name ends in .parquet, else CSV.",
)  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on with a table that was not finished.")
@click.option(
    "--processes", type=click.IntRange(1, MOST_PROCESSES), default=1, show_default=True,
    help="Processes that answer, each with a model of its own in memory.",
)  # fmt: skip
@click.option(
    "--batch-size", type=click.IntRange(1, LARGEST_BATCH), default=32, show_default=True,
    help="Files that are answered together.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object a line.")
@click.pass_context
def command(
    context: click.Context,
    model: Path,
    paths: tuple[Path, ...],
    list_file: Path | None,
    out: Path | None,
    resume: bool,
    processes: int,
    batch_size: int,
    as_json: bool,
) -> None:
    """Predict the class of picture files, and of the pictures in folders and below.

    Writes a table with path, predicted, problem and a column prob_<class> for each class. A file that gives
    no picture has a row with its problem; the first 20 are told on stderr too. Exit code 1 when no file gave one.
    Memory does not grow with the number of files.

    With --out the table grows in a folder FILE.part, and stands at FILE once it is whole. Where the command was
    stopped, the same command with --resume goes on and writes the same bytes as one that was never stopped.

    Answers and their order are the same with any number of --processes; with another --batch-size the last of
    six digits may differ. One process reads and decodes ahead and uses all cores already: more help where a small
    model leaves cores idle, on a machine with many. Each loads TensorFlow and the model: seconds, and most of its memory.

    \b
    Examples:
      kerastl predict runs/folder-classifier-1 photos --out answers.csv
      kerastl predict runs/folder-classifier-1 photos --out answers.csv --resume
      kerastl predict runs/folder-classifier-1/export/saved_model archive --out answers.parquet --processes 4
      kerastl predict runs/folder-classifier-1 --list files.txt --json
    """
    if bool(paths) == (list_file is not None):
        raise click.UsageError("Name files or folders to predict, or give --list FILE.")
    if resume and out is None:
        raise click.UsageError("--resume needs --out FILE: the table to go on with.")
    from kerastl.cli._quiet import load_tensorflow
    from kerastl.export.predicting.table import TableRequest, check_request, kind_of, write_table

    kind = kind_of(out, as_json)
    if as_json and kind != "json":
        raise click.UsageError("--json writes lines of JSON, and --out names a Parquet file.")
    request = TableRequest(kind, out, resume, processes, batch_size, load_tensorflow)
    asked = check_request(model, request)
    with _listed(paths, list_file, out) as files:
        bad = write_table(asked, files, request, sys.stdout)
    _tell(bad, files.count)
    if bad == files.count:
        context.exit(NOTHING_READ)


def _tell(bad: int, count: int) -> None:
    from kerastl.export.predicting.table import MOST_SHOWN
    from kerastl.progress import say

    if bad:
        rest = (
            f" The table names all, above are the first {MOST_SHOWN}." if bad > MOST_SHOWN else ""
        )
        say(f"{bad} of {count} files could not be read.{rest}")


@contextmanager
def _listed(
    paths: tuple[Path, ...], list_file: Path | None, out: Path | None
) -> Iterator[FileList]:
    from kerastl.export import find_pictures
    from kerastl.export.predicting.file_list import listed
    from kerastl.export.predicting.finding import named_in
    from kerastl.progress import track

    folder = None if out is None else out.absolute().parent
    with ExitStack() as stack:
        if list_file is None:
            found = find_pictures(paths)
        else:
            found = named_in(stack.enter_context(_opened(list_file)))
        files = stack.enter_context(listed(track(found, "finding pictures"), folder))
        if not files.count and list_file is not None:
            raise RequestError("The list names no file.")
        if not files.count:
            raise RequestError(
                "No picture was found: the folders hold no file with a picture's suffix."
            )
        yield files


def _opened(list_file: Path) -> BinaryIO:
    try:
        return cast(BinaryIO, click.open_file(str(list_file), "rb"))
    except OSError as error:
        raise RequestError(f"The list {list_file} cannot be read: {error.strerror}.") from error

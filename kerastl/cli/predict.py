"""`kerastl predict`: predictions for files and folders, as a table."""

from __future__ import annotations

import io
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import click

from kerastl.cli._output import NonEmptyPath, RunPath, out_option, shell_path
from kerastl.console import load_tensorflow, print_status, track
from kerastl.errors import RequestError, pluralize, quote

if TYPE_CHECKING:
    from kerastl.export.predict import FileList

MAX_BATCH_SIZE = 4096
MAX_CLASSES = 20
"""Maximum number of classes in the summary."""


@click.command()
@click.argument("model", metavar="RUN|EXPORT", type=RunPath())
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=NonEmptyPath())
@click.option(
    "--list", "list_file", type=NonEmptyPath(allow_dash=True), metavar="FILE",
    help="A list of files to predict, one path per line; - reads it from stdin.",
)  # fmt: skip
@out_option("Write the table to this file instead of stdout: Parquet if the name ends in .parquet, else CSV.")
@click.option("--resume", is_flag=True, help="Continue a table that was interrupted.")
@click.option(
    "--batch-size", type=click.IntRange(1, MAX_BATCH_SIZE), default=32, show_default=True,
    help="The number of files that are predicted together.",
)  # fmt: skip
@click.option("--strict", is_flag=True, help="Exit with code 1 if any file could not be read.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object per line.")
def command(
    model: Path,
    paths: tuple[Path, ...],
    list_file: Path | None,
    out: Path | None,
    resume: bool,
    batch_size: int,
    strict: bool,
    as_json: bool,
) -> None:
    """Predict the classes of image files. Folders are searched recursively.

    Writes a table with the columns path, predicted, confidence (the probability of the predicted class), problem,
    prob_<class> for each class, model_version and model_sha256. A file that cannot be read has a row with the problem.
    The first 20 problems and the number of unreadable files are also printed to stderr. The exit code is 0 if at least
    one file was predicted, and 1 if no file could be read. With --strict, it is 1 if any file could not be read; all
    others are predicted. Files in folders are recognized as images by their content; other files are listed on
    stderr. Memory use does not grow with the number of files.

    With --out, the table is written to the folder FILE.part and moved to FILE when it is complete. After an
    interruption, the same command with --resume continues and writes the same bytes as an uninterrupted one.

    With a different --batch-size, the last of the six digits can differ.

    \b
    Examples:
      kerastl predict runs/folder-classifier-1 photos --out predictions.csv
      kerastl predict runs/folder-classifier-1 photos --out predictions.csv --resume
      kerastl predict runs/folder-classifier-1/export/saved_model archive --out predictions.parquet
      kerastl predict runs/folder-classifier-1 --list files.txt --json
    """
    if paths and list_file:
        raise click.UsageError(
            "--list FILE cannot be combined with image files or folders. Use one of the two."
        )
    if not paths and not list_file:
        raise click.UsageError("Specify image files or folders, or use --list FILE.")
    if resume and out is None:
        raise click.UsageError("--resume requires --out FILE: the table to continue.")
    from kerastl.export.predict_table import check_request, table_format_of, write_table

    table_format = table_format_of(out, as_json)
    if as_json and table_format != "json":
        raise click.UsageError("--json writes JSON lines, but --out is a Parquet file.")
    request = check_request(model, table_format, out, resume)
    if out is None and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # the table is the same in all locales
    with _file_list(paths, list_file, out) as files:
        load_tensorflow()
        counts = write_table(
            request, files, table_format, sys.stdout, out=out, resume=resume, batch_size=batch_size
        )
    _report(counts[""], files.count)
    if out is not None:
        print_counts(counts, out)
    if counts[""] == files.count or (strict and counts[""]):
        raise SystemExit(1)


def print_counts(counts: Counter[str], out: Path) -> None:
    """Print the number of files by predicted class, and the path of the table."""
    ranked = [(name, count) for name, count in counts.most_common() if name]
    class_counts = [f"{count:,} {quote(name, '')}" for name, count in ranked[:MAX_CLASSES]]
    if others := [count for _, count in ranked[MAX_CLASSES:]]:
        class_counts.append(f"{sum(others):,} of {len(others)} other class{'' if len(others) == 1 else 'es'}")
    predicted = counts.total() - counts[""]
    unread = f" ({counts['']:,} could not be read)" if counts[""] else ""
    by_class = f": {', '.join(class_counts)}" if class_counts else ""
    click.echo(f"Predicted {predicted:,} of {pluralize(counts.total(), 'file')}{unread}{by_class}.")
    click.echo(f"Wrote {shell_path(out)}")


def _report(num_unreadable: int, count: int) -> None:
    from kerastl.export.predict import MAX_REPORTED

    if not num_unreadable:
        return
    rest = ""
    if num_unreadable > MAX_REPORTED:
        rest = f" The table lists all of them; the first {MAX_REPORTED} are above."
    print_status(f"{num_unreadable:,} of {pluralize(count, 'file')} could not be read.{rest}")


@contextmanager
def _file_list(paths: tuple[Path, ...], list_file: Path | None, out: Path | None) -> Iterator[FileList]:
    from kerastl.data.convert import reason_to_ignore
    from kerastl.data.readers import predicted_table_hint
    from kerastl.data.readers.folder import Skipped
    from kerastl.export.predict import MAX_REPORTED, find_images, read_file_list, store_file_list

    folder = None if out is None else out.absolute().parent
    with ExitStack() as stack:
        skipped = Skipped()
        if list_file is None:
            images = find_images(paths, skipped)
        else:
            images = read_file_list(stack.enter_context(_opened(list_file)))
        files = stack.enter_context(store_file_list(track(images, "finding images"), folder))
        if paths and not any(path.is_dir() or reason_to_ignore(path) is None for path in paths):
            names = [f"{shell_path(path)} ({reason_to_ignore(path)})" for path in dict.fromkeys(paths)]
            raise RequestError(f"No images: {', '.join(names[:MAX_REPORTED])}.{predicted_table_hint(paths)}")
        if not files.count and list_file is not None:
            raise RequestError("The list is empty.")
        if not files.count:
            raise RequestError(
                "\n".join(
                    [
                        f"No images found in {', '.join(map(shell_path, paths))}.",
                        *skipped.notes(),
                        *skipped.table_hint(paths[0]),
                    ]
                )
            )
        for note in skipped.notes():
            print_status(note)
        yield files


def _opened(list_file: Path) -> BinaryIO:
    try:
        return cast(BinaryIO, click.open_file(str(list_file), "rb"))
    except OSError as error:
        raise RequestError(f"The list {list_file} cannot be read: {error.strerror}.") from error

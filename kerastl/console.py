"""Progress, status lines and facts on stderr. Bars are shown on a terminal only."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Generator, Iterable, Sequence, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, TextIO, TypeVar

from kerastl.errors import escape

Item = TypeVar("Item")
Facts = Sequence[tuple[str, str]]
"""Titles and texts for the terminal and the report. An empty title continues the previous fact."""
TITLE_WIDTH = 12
LINE_SECONDS, LINE_SECONDS_AT_MOST = 5, 60
"""Minimum seconds between two progress lines, and maximum if less than a tenth of the work was done in between."""
MIN_WIDTH = 40

_is_quiet = ContextVar("_is_quiet", default=False)


@contextmanager
def quiet(is_quiet: bool = True) -> Generator[None, None, None]:
    """Hide progress and status lines if `is_quiet` is true."""
    token = _is_quiet.set(is_quiet or _is_quiet.get())
    try:
        yield
    finally:
        _is_quiet.reset(token)


def _is_interactive() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not _is_quiet.get()


@cache
def _console() -> Any:
    """Return the console that all bars share, so that one can be shown inside another."""
    from rich.console import Console

    return Console(stderr=True)


def track(items: Iterable[Item], description: str, total: int | None = None) -> Generator[Item, None, None]:
    """Yield the items and show a progress bar if stderr is a terminal. Closing the generator removes the bar.

    Args:
        items: Items to process.
        description: What is being done, e.g. `checking images`.
        total: Number of items. Required if `items` has no length.
    """
    if not _is_interactive():
        yield from items
        return
    from rich.progress import track as rich_track

    if total is None and isinstance(items, Sized):
        total = len(items)
    yield from rich_track(items, description=description, total=total, console=_console(), transient=True)


@contextmanager
def progress_bar(
    description: str, unit: str, total: int, done: int = 0
) -> Generator[Callable[[int], object], None, None]:
    """Yield a function that advances a progress bar with the speed and the remaining time.

    If stderr is not a terminal, it prints a line after each tenth of the work, but not more often than every 5 seconds,
    and at least every minute.

    Args:
        description: What is being done, e.g. `predicting`.
        unit: Unit that is counted, e.g. `files`.
        total: Number of units.
        done: Number of units that an earlier process completed.
    """
    start = last_time = time.monotonic()
    last = completed = done

    def speed() -> float:
        return (completed - done) / max(time.monotonic() - start, 1e-3)

    def print_line(count: int) -> None:
        nonlocal completed, last, last_time
        completed += count
        seconds = time.monotonic() - last_time
        is_due = seconds >= LINE_SECONDS_AT_MOST or (
            seconds >= LINE_SECONDS and completed - last >= total / 10
        )
        if is_due and completed < total:
            last, last_time = completed, time.monotonic()
            left = format_duration((total - completed) / speed())
            counts = f"{completed:,} of {total:,} {unit} ({completed / total:.0%}), {speed():,.1f}/s"
            print_status(f"{description.capitalize()}: {counts}, about {left} left")

    if not _is_interactive():
        yield print_line
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    counts = "{task.completed:,}/{task.total:,} {task.fields[unit]}, {task.fields[speed]:,.1f}/s"
    columns = ("{task.description}", BarColumn(), TextColumn(counts), TimeRemainingColumn())
    # stdout carries the results of a command and is never redirected through the bar.
    with Progress(*columns, console=_console(), transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(description, total=total, completed=done, unit=unit, speed=0.0)

        def advance(count: int) -> None:
            nonlocal completed
            completed += count
            bar.update(task, completed=completed, speed=speed())

        yield advance


@contextmanager
def status(
    description: str, *, prints_line: bool = True, file: TextIO | None = None
) -> Generator[None, None, None]:
    """Show the current step and its elapsed time on a terminal.

    Args:
        description: The step, e.g. `Writing the report`.
        prints_line: Whether to print the description if stderr is not a terminal.
        file: The terminal, if it is not stderr.
    """
    if not _is_interactive():
        if prints_line:
            print_status(description)
        yield
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TimeElapsedColumn

    # The characters of the spinner are ASCII, for terminals without UTF-8.
    columns = (SpinnerColumn("line"), "{task.description}", TimeElapsedColumn())
    console = Console(file=file, force_terminal=True) if file else _console()
    with Progress(
        *columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=file is None
    ) as bar:
        bar.add_task(description, total=None)
        yield


def print_status(line: str) -> None:
    """Write one line to stderr, without control characters."""
    if not _is_quiet.get():
        print(escape(line), file=sys.stderr, flush=True)


def format_facts(facts: Facts, *, stream: TextIO) -> list[str]:
    """Return facts as lines with aligned titles. On a terminal, long lines are wrapped at its width."""
    width = max(shutil.get_terminal_size().columns, MIN_WIDTH) if stream.isatty() else sys.maxsize
    wrapper = textwrap.TextWrapper(
        width, subsequent_indent=" " * TITLE_WIDTH, break_long_words=False, break_on_hyphens=False
    )
    return [wrapper.fill(f"{title:<{TITLE_WIDTH}}{text}") for title, text in facts]


def print_facts(facts: Facts) -> None:
    """Write facts to stderr."""
    for line in format_facts(facts, stream=sys.stderr):
        print_status(line)


def load_tensorflow(*, freeze: bool = True) -> None:
    """Import TensorFlow and Keras without TensorFlow's startup messages, which are shown only if the import fails.

    TensorFlow writes them to file descriptor 2 before any setting can silence it. With TF_CPP_MIN_LOG_LEVEL 0 or 1,
    they are not hidden.

    Args:
        freeze: Whether garbage collections ignore all objects that exist after the import, as in a command. False in the
            process of a program that has objects of its own.
    """
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # child processes inherit it
    if os.environ["TF_CPP_MIN_LOG_LEVEL"] in ("0", "1"):
        _import_tensorflow(freeze)
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    with (
        os.fdopen(stderr, "w") as terminal,
        tempfile.TemporaryFile() as captured,
        status("Loading TensorFlow", prints_line=False, file=terminal),
    ):
        os.dup2(captured.fileno(), 2)
        try:
            _import_tensorflow(freeze)
        except BaseException:
            captured.seek(0)
            os.write(stderr, captured.read())
            raise
        finally:
            os.dup2(stderr, 2)


def _import_tensorflow(freeze: bool) -> None:
    # The import creates a million objects that exist until the end. Garbage collections, 900 during the import and one
    # at exit, would traverse them all, for a fourth of the CPU time of a command that predicts one image.
    is_enabled, num_frozen = gc.isenabled(), gc.get_freeze_count()
    gc.disable()
    try:
        import keras  # noqa: F401 - imported for its side effects on the terminal
        import tensorflow as tf
    finally:
        gc.freeze()
        if not freeze and not num_frozen:
            gc.unfreeze()  # into the oldest generation, without traversing them
        if is_enabled:
            gc.enable()

    # Every phase and candidate has a function of its own, which TensorFlow takes for one that is traced again and again.
    tf.get_logger().addFilter(lambda record: "triggered tf.function retracing" not in record.getMessage())
    tf.config.list_physical_devices()


def format_duration(seconds: float) -> str:
    """Format a duration, e.g. `40 s`, `3 min 20 s` or `2 h 5 min`."""
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(whole / 60), 60)
    if not hours:
        return f"{minutes} min"
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"

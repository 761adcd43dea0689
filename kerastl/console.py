"""Progress bars and status lines on stderr. Bars are shown on a terminal only."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterable, Sized
from contextlib import contextmanager
from itertools import chain, islice
from typing import TypeVar

Item = TypeVar("Item")


def track(items: Iterable[Item], description: str, total: int | None = None) -> Generator[Item, None, None]:
    """Yield the items and show a progress bar if stderr is a terminal. Closing the generator removes the bar.

    Args:
        items: Items to process.
        description: What is being done, e.g. `checking images`.
        total: Number of items. Required if `items` has no length.
    """
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track as rich_track

    console = Console(stderr=True)
    if total is None and isinstance(items, Sized):
        total = len(items)
    # Fetch the first item before the bar starts, because fetching it may show a progress bar, too.
    rest = iter(items)
    first = list(islice(rest, 1))
    yield from rich_track(
        chain(first, rest), description=description, total=total, console=console, transient=True
    )


@contextmanager
def progress_bar(
    description: str, unit: str, total: int, done: int = 0
) -> Generator[Callable[[int], object], None, None]:
    """Yield a function that advances a progress bar with the speed and the remaining time.

    Args:
        description: What is being done, e.g. `predicting`.
        unit: Unit that is counted, e.g. `files`.
        total: Number of units.
        done: Number of units that an earlier process completed.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    counts = "{task.completed:,}/{task.total:,} {task.fields[unit]}, {task.fields[speed]:,.1f}/s"
    columns = ("{task.description}", BarColumn(), TextColumn(counts), TimeRemainingColumn())
    start = time.monotonic()
    # stdout carries the results of a command and is never redirected through the bar.
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(description, total=total, completed=done, unit=unit, speed=0.0)
        advanced = 0

        def advance(count: int) -> None:
            nonlocal advanced
            advanced += count
            speed = advanced / max(time.monotonic() - start, 1e-3)
            bar.update(task, advance=count, speed=speed)

        yield advance


def print_status(line: str) -> None:
    """Write one line to stderr."""
    print(line, file=sys.stderr, flush=True)


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

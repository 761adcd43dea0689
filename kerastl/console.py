"""What long work shows: a bar on a terminal, plain lines elsewhere; always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterable, Sized
from contextlib import contextmanager
from itertools import chain, islice
from typing import TypeVar

Item = TypeVar("Item")


def track(items: Iterable[Item], description: str, total: int | None = None) -> Generator[Item, None, None]:
    """Yield the items, with a bar on stderr when stderr is a terminal; to close it takes the bar away.

    Args:
        items: what is worked through.
        description: what is being done, e.g. `checking images`.
        total: number of items, where `len(items)` does not say it.
    """
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track as rich_track

    console = Console(stderr=True)
    if total is None and isinstance(items, Sized):
        total = len(items)
    # The first is fetched before the bar begins: to fetch it may take work that shows a bar of its own.
    rest = iter(items)
    first = list(islice(rest, 1))
    yield from rich_track(
        chain(first, rest), description=description, total=total, console=console, transient=True
    )


@contextmanager
def progress_bar(
    description: str, unit: str, total: int, done: int = 0
) -> Generator[Callable[[int], object], None, None]:
    """Give what is to be called with each number just done; a terminal shows a bar, the speed and the time left.

    Args:
        description: what is being done, e.g. `predicting`.
        unit: what is counted, e.g. `files`.
        total: how many there are.
        done: how many of them were done before.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    told = "{task.completed:,}/{task.total:,} {task.fields[unit]}, {task.fields[speed]:,.1f}/s"
    columns = ("{task.description}", BarColumn(), TextColumn(told), TimeRemainingColumn())
    begun = time.monotonic()
    # What a command writes to stdout is its result, and never passes through the bar.
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(description, total=total, completed=done, unit=unit, speed=0.0)
        here = 0

        def advance(count: int) -> None:
            nonlocal here
            here += count
            speed = here / max(time.monotonic() - begun, 1e-3)
            bar.update(task, advance=count, speed=speed)

        yield advance


def print_status(line: str) -> None:
    """Write one line to stderr."""
    print(line, file=sys.stderr, flush=True)


def format_duration(seconds: float) -> str:
    """Return a time as people read it: `40 s`, `3 min 20 s`, `2 h 5 min`."""
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

"""Batches answered by several processes: each has its own model, answers come in the order of the batches.

Processes are spawned, not forked: TensorFlow's threads do not survive a fork. A process lives as long as the pipe
that it takes its batches from, and so never longer than its parent, however that ended.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING

from kerastl.data.convert import no_pillow_warnings
from kerastl.errors import KerastlError, RunFailed
from kerastl.export.predicting.finding import shown

if TYPE_CHECKING:
    from kerastl.export.predicting.work import Answered, Work

AHEAD = 4
"""Batches that may wait, for each process, until one before them is answered."""
GRACE_S = 10.0


@dataclass
class Child:
    """One process, and what it was given last.

    Args:
        process: the process.
        pipe: takes lists of paths, gives what each gave or why it failed.
        index: of the batch it has.
        paths: of that batch.
    """

    process: SpawnProcess
    pipe: Connection
    index: int = -1
    paths: tuple[Path, ...] = ()

    def give(self, index: int, paths: list[Path]) -> None:
        """Send a batch to a process that waits for one."""
        self.index, self.paths = index, tuple(paths)
        with suppress(OSError):  # it died: `take` tells how
            self.pipe.send(paths)

    def take(self) -> Answered:
        """Return what it sent.

        Raises:
            KerastlError: what went wrong there, or that it died, and over which files.
        """
        try:
            sent: Answered | KerastlError = self.pipe.recv()
        except (EOFError, OSError):
            raise RunFailed(self._how_it_died()) from None
        if isinstance(sent, KerastlError):
            raise sent
        return sent

    def _how_it_died(self) -> str:
        self.process.join(GRACE_S)
        code = self.process.exitcode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        first, last = shown(self.paths[0]), shown(self.paths[-1])
        among = first if first == last else f"{len(self.paths)} files from {first} to {last}"
        reason = (
            " Signal 9 mostly means that memory ran out: try fewer --processes."
            if code == -9
            else ""
        )
        return f"A process ended with {how} over {among}.{reason}"


def answer_in_processes(
    work: Work, batches: Iterable[list[Path]], processes: int
) -> Generator[Answered, None, None]:
    """Yield what each batch gave, in order; at most `AHEAD` batches a process wait for one before them.

    Raises:
        KerastlError: as `Child.take`.
    """
    children: list[Child] = []
    try:
        with _deaf_to_ctrl_c():
            children += (_start(work) for _ in range(processes))
        yield from _in_order(children, batches)
    finally:
        _end(children)


def _in_order(children: list[Child], batches: Iterable[list[Path]]) -> Iterator[Answered]:
    left = enumerate(batches)
    idle, busy = list(children), dict[Connection, Child]()
    waiting, due, given = dict[int, "Answered"](), 0, 0
    while True:
        while idle and given - due < AHEAD * len(children):
            index, batch = next(left, (None, []))
            if index is None:
                break
            child = idle.pop()
            child.give(index, batch)
            busy[child.pipe], given = child, index + 1
        if not busy:
            return
        ready = wait(list(busy))
        for child in [one for pipe, one in busy.items() if pipe in ready]:
            del busy[child.pipe]
            waiting[child.index] = child.take()
            idle.append(child)
        while due in waiting:
            yield waiting.pop(due)
            due += 1


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach: a terminal sends it to all, and only the parent is to answer."""
    # Python starts this one with the first process, and lets Ctrl-C through again as it does.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(work: Work) -> Child:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_live, args=(theirs, work), daemon=True)
    process.start()
    # Only the child holds its end from here on: when it dies, reading ours ends.
    theirs.close()
    return Child(process, ours)


def _live(pipe: Connection, work: Work) -> None:
    """What a child does: answer until the parent has nothing more, or is gone."""
    # Several processes share a GPU only where none takes all of its memory at once.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    with suppress(EOFError, ConnectionError):
        try:
            ask = work.open()
            with no_pillow_warnings():
                while True:
                    pipe.send(ask(pipe.recv()))
        except (EOFError, ConnectionError):
            raise
        except KerastlError as error:
            pipe.send(error)
        except Exception as error:
            reason = next(iter(str(error).splitlines()), "")
            pipe.send(RunFailed(f"A process failed: {type(error).__name__}: {reason}"))


def _end(children: list[Child]) -> None:
    """Close the pipes, stop every process, and wait for all."""
    for child in children:
        child.pipe.close()
        child.process.terminate()
    for child in children:
        child.process.join(GRACE_S)
        if child.process.is_alive():
            child.process.kill()
            child.process.join()

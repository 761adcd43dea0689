"""The few errors that kerastl raises on purpose. The command line turns each into a letter and an exit code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


class KerastlError(Exception):
    """An error whose text is meant for the person at the keyboard."""

    exit_code = 1


class RequestError(KerastlError):
    """The request is wrong: a bad recipe, bad data, a missing file. Nothing was run."""

    exit_code = 1


class RunFailed(KerastlError):
    """The request was right and the run failed: a proof did not hold, the loss became NaN, the disk is full."""

    exit_code = 3


class WouldFailAgain(RunFailed):
    """A run failed in a way that resuming it would repeat: the loss became NaN, frozen weights moved."""


class Diverged(WouldFailAgain):
    """A loss or a weight became NaN or infinite.

    Args:
        what: became so, and where.
        remedy: what became of the model, and what to type next.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        self.what = what
        super().__init__(f"{what} {remedy}".strip())


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Args:
        where: `line 7, training.epoch`, or a file; empty when the message says it.
        message: what is wrong, what is allowed.
    """

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class Problems(RequestError):
    """Several problems of one request, reported together.

    Args:
        subject: what has the problems, e.g. `flowers.yaml`.
        problems: at least one, in the order of the file.
        footer: what to type next.
        shown: how many of them the text lists, of the others it tells the number; None: all.
    """

    def __init__(
        self,
        subject: str,
        problems: Sequence[Problem],
        footer: str = "",
        shown: int | None = None,
    ) -> None:
        self.subject = subject
        self.problems = tuple(problems)
        self.footer = footer
        self.shown = len(self.problems) if shown is None else shown
        super().__init__(subject, self.problems, footer, shown)

    def __str__(self) -> str:
        count = len(self.problems)
        lines = [f"{self.subject} has {count:,} problem{'s' if count != 1 else ''}."]
        lines += [f"  {problem}" for problem in self.problems[: self.shown]]
        if count > self.shown:
            lines.append(f"  ... and {count - self.shown:,} more.")
        return "\n".join(lines + ([self.footer] if self.footer else []))


def first_line(error: Exception) -> str:
    """Return the first line of what an error says, or its kind where it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)


@contextmanager
def naming_damage(file: Path, remedy: str) -> Iterator[None]:
    """Turn whatever a damaged or hostile file raises while it is read into one error that names it.

    Args:
        file: that is read inside.
        remedy: what to do next, a sentence.
    """
    try:
        yield
    except (KerastlError, OSError):
        raise
    except Exception as error:  # JSON alone raises five kinds
        reason = first_line(error)
        why = f"it does not hold {reason}" if isinstance(error, KeyError) else reason
        raise RequestError(f"{file} is damaged: {why}. {remedy}") from error

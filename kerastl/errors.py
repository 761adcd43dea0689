"""The few errors that kerastl raises on purpose. The command line turns each into a letter and an exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LONGEST_QUOTE = 60
# Keys of other tools, and what they are called here.
SYNONYMS = {
    "lr": "learning_rate",
    "model": "backbone",
    "network": "backbone",
    "training": "phases",
    "stages": "phases",
    "dataset": "data",
    "augmentation": "augment",
    "batch": "batch_size",
    "image_size": "image_size_px",
    "patience": "early_stopping",
}


class KerastlError(Exception):
    """An error whose text is meant for the person at the keyboard."""

    exit_code = 1


class RequestError(KerastlError):
    """The request is wrong: a bad recipe, bad data, a missing file. Nothing was run."""

    exit_code = 1


class RunFailed(KerastlError):
    """The request was right and the run failed: a proof did not hold, the loss became NaN, the disk is full."""

    exit_code = 3


class PermanentFailure(RunFailed):
    """A run failed in a way that resuming it would repeat: the loss became NaN, frozen weights moved."""


class Diverged(PermanentFailure):
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
        self, subject: str, problems: Sequence[Problem], footer: str = "", shown: int | None = None
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
def report_damage(file: Path, remedy: str) -> Iterator[None]:
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


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that was probably meant."""
    known = list(known)
    if SYNONYMS.get(word) in known:
        return SYNONYMS[word]
    near = difflib.get_close_matches(word.lower()[:100], known, n=1)
    return near[0] if near else None


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return the nearest known word as a question, or all known words."""
    near = nearest(word, known)
    return f"Did you mean '{near}'?" if near else f"Known: {', '.join(known)}."


def join_words(words: Sequence[str], last: str = "or") -> str:
    """Return `a, b or c`."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def quote(text: str, marks: str = "'") -> str:
    """Return text fit for a terminal: unprintable characters escaped, long text cut."""
    safe = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text[: LONGEST_QUOTE * 4]
    )
    cut = safe if len(safe) <= LONGEST_QUOTE * 2 else safe[:LONGEST_QUOTE] + "…"
    return f"{marks}{cut}{marks}"

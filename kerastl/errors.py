"""Exceptions with messages for the user. The command line prints the message and exits with `exit_code`."""

from __future__ import annotations

import difflib
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LONGEST_QUOTE = 60
PLAIN = re.compile(r"[\w./+-]+")
"""Paths and numbers that need no quotes in YAML."""
# Names that other tools use for recipe keys.
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
    """Base class of the errors that kerastl raises for the user."""

    exit_code = 1


class RequestError(KerastlError):
    """The request is invalid: a bad recipe, bad data or a missing file. Nothing was run."""

    exit_code = 1


class RunFailed(KerastlError):
    """A valid run failed: a consistency check failed, the loss became NaN, or the disk is full."""

    exit_code = 3


class PermanentFailure(RunFailed):
    """A run failed in a way that resuming would repeat: the loss became NaN, or frozen weights changed."""


class Diverged(PermanentFailure):
    """A loss or a weight became NaN or infinite.

    Args:
        what: What diverged, and where.
        remedy: The state of the model, and what to do next.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        self.what = what
        super().__init__(f"{what} {remedy}".strip())


@dataclass(frozen=True)
class Problem:
    """One problem of a request.

    Args:
        where: Location of the problem, e.g. `line 7, training.epoch` or a file. Empty if the message states it.
        message: What is wrong, and what is allowed.
    """

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class Problems(RequestError):
    """Several problems of one request, reported together.

    Args:
        subject: What has the problems, e.g. `flowers.yaml`.
        problems: At least one problem, in the order of the file.
        footer: What to type next.
        shown: Number of problems that the message lists; the rest are counted. None lists all.
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


def raise_problems(
    subject: str, problems: Sequence[Problem], footer: str = "", shown: int | None = None
) -> None:
    """Raise `Problems` with these arguments, if there are any problems."""
    if problems:
        raise Problems(subject, problems, footer, shown)


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type name if the message is empty."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


@contextmanager
def report_damage(file: Path, remedy: str) -> Iterator[None]:
    """Convert any error from parsing a damaged file to a `RequestError` that names the file.

    Args:
        file: The file that the `with` block reads.
        remedy: What to do next, as a sentence.
    """
    try:
        yield
    except (KerastlError, OSError):
        raise
    except Exception as error:  # JSON alone raises five types
        reason = first_line(error)
        why = f"the key {reason} is missing" if isinstance(error, KeyError) else reason
        raise RequestError(f"{file} is damaged: {why}. {remedy}") from error


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word closest to `word`, or None if none is close."""
    known = list(known)
    if SYNONYMS.get(word) in known:
        return SYNONYMS[word]
    near = difflib.get_close_matches(word.lower()[:100], known, n=1)
    return near[0] if near else None


def suggest(word: str, known: Iterable[str]) -> str:
    """Return `Did you mean ...? `, with a trailing space, for the nearest known word, or an empty string if none is close."""
    near = nearest(word, known)
    return f"Did you mean {quote(near)}? " if near else ""


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return `Did you mean ...?` with the nearest known word, or the list of known words."""
    return suggest(word, known).strip() or f"Known: {', '.join(known)}."


def join_words(words: Sequence[str], last: str = "or") -> str:
    """Join words as `a, b or c`."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def shell_quote(word: object) -> str:
    """Quote a word for bash and zsh. Unprintable characters are escaped, so that the result is one printable line."""
    text = str(word)
    if text.isprintable():
        # zsh replaces a word that starts with = by the path of a command.
        return f"'{text}'" if text.startswith("=") and "'" not in text else shlex.quote(text)
    letters = (chr(byte) for byte in text.encode(errors="surrogateescape"))
    plain = (
        letter if " " <= letter <= "~" and letter not in "'\\" else f"\\x{ord(letter):02x}"
        for letter in letters
    )
    return f"$'{''.join(plain)}'"


def shell_command(*words: object) -> str:
    """Return a command that can be copied to bash or zsh."""
    return " ".join(map(shell_quote, words))


def set_option(key: str, value: object) -> str:
    """Return `--set KEY=VALUE` for bash or zsh. Text that YAML would read differently is quoted for YAML, too."""
    text = str(value)
    return shell_command(
        "--set", f"{key}={text if PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)}"
    )


def quote(text: str, marks: str = "'") -> str:
    """Quote text for a terminal: escape unprintable characters and shorten long text."""
    safe = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text[: LONGEST_QUOTE * 4]
    )
    cut = safe if len(safe) <= LONGEST_QUOTE * 2 else safe[:LONGEST_QUOTE] + "…"
    return f"{marks}{cut}{marks}"

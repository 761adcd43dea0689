"""Call the command line in this process, and write its texts so that they are the same on every machine."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    code: int
    out: str
    err: str


def call(*words: object, folder: Path) -> Answer:
    """Run one command in a folder and return its exit code and texts.

    Args:
        words: the words after `kerastl`.
        folder: the working directory.
    """
    from kerastl.cli import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(word) for word in words])
        except SystemExit as left:
            code = int(left.code or 0)
    return Answer(code, out.getvalue(), err.getvalue())


def normalized(text: str, folder: Path) -> str:
    """Replace folders, versions, seconds and sizes of this machine by their names."""
    for path, name in ((folder.resolve(), "<folder>"), (folder, "<folder>"), (ROOT, "<root>")):
        text = text.replace(str(path), name)
    text = re.sub(r"\b\d+\.\d+ s\b", "<seconds> s", text)
    text = re.sub(r"\b\d+\.\d+\.\d+\S*", "<version>", text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines()) + "\n"


def help_texts(folder: Path) -> dict[str, str]:
    """Return the help of every command and subcommand, by the words that call it.

    A new process asks for them, because click keeps the help option of a command after its first call, and a test that calls
    a command without the group leaves it without `-h`.
    """
    script = f"import json, command_line; print(json.dumps(command_line.read_help({str(folder)!r})))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    return dict(json.loads(done.stdout))


def read_help(folder: str) -> dict[str, str]:
    """Return the help of every command and subcommand, asked for in this process."""
    with mock.patch.dict(os.environ, COLUMNS="100"):
        return dict(_help([], Path(folder)))


def _help(words: list[str], folder: Path) -> Iterator[tuple[str, str]]:
    answer = call(*words, "--help", folder=folder)
    assert answer.code == 0, answer.err
    yield " ".join(["kerastl", *words, "--help"]), normalized(answer.out, folder)
    _, separator, commands = answer.out.partition("\nCommands:\n")
    for line in commands.splitlines() if separator else ():
        if name := re.match(r"  (\S+)", line):
            yield from _help([*words, name[1]], folder)

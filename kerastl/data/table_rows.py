"""The rows of a CSV table, each with the line that it begins on, and every fault of the table together."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from kerastl.data.records import count_of
from kerastl.errors import Problem, Problems, RequestError

DELIMITERS = ",;\t"
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
SHOWN = 20


@dataclass(frozen=True)
class Row:
    """One row: the line it begins on, and its cells by column name."""

    line: int
    cells: dict[str, str]


def refuse(path: Path, problems: Sequence[Problem]) -> None:
    """Raise what is wrong with a table, if anything is."""
    if problems:
        raise Problems(f"The table {path}", problems, "Nothing was run.", shown=SHOWN)


def parsed(path: Path) -> tuple[list[str], list[Row]]:
    """Return the header and the rows.

    Raises:
        Problems: rows of another length than the header.
    """
    problems: list[Problem] = []
    rows: list[Row] = []
    try:
        # The BOM that spreadsheets write is no part of the first column's name.
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = _lines(file)
            header = _header(lines)
            for line, cells in lines:
                if len(cells) == len(header):
                    rows.append(Row(line, dict(zip(header, map(_plain, cells), strict=True))))
                else:
                    text = f"has {count_of(len(cells), 'cell')}, the header has {len(header)}"
                    problems.append(Problem(f"line {line}", text))
    except UnicodeDecodeError as error:
        raise RequestError(f"The table {path} is not UTF-8: save it as CSV UTF-8.") from error
    except (OSError, csv.Error) as error:
        raise RequestError(f"The table {path} cannot be read: {error}.") from error
    twice = sorted({name for name in header if header.count(name) > 1})
    problems += [Problem("line 1", f"two columns are called {name!r}") for name in twice]
    refuse(path, problems)
    if not rows:
        raise RequestError(
            f"The table {path} holds no rows; a header and a row a picture are wanted."
        )
    return header, rows


def header_of(path: Path) -> list[str]:
    """Return the names of a table's columns; its rows are not read.

    Raises:
        RequestError: no such file, or not UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _header(_lines(file))
    except UnicodeDecodeError as error:
        raise RequestError(f"The table {path} is not UTF-8: save it as CSV UTF-8.") from error
    except (OSError, csv.Error) as error:
        raise RequestError(f"The table {path} cannot be read: {error}.") from error


def nearest(name: str, header: Sequence[str]) -> str | None:
    """Return the column whose name is most like another; None where none is like it."""
    return next(iter(difflib.get_close_matches(name, header, n=1, cutoff=0.5)), None)


def absent(name: str, header: Sequence[str]) -> str:
    """Return the words for a column that a table lacks: the nearest that it has, and all that it has."""
    near = nearest(name, header)
    hint = f" Did you mean {near!r}?" if near else ""
    return f"there is no column {name!r}.{hint} Columns: {', '.join(header)}."


def _lines(file: TextIO) -> Iterator[tuple[int, list[str]]]:
    first = file.readline()
    file.seek(0)
    delimiter = max(DELIMITERS, key=first.count)
    return _numbered(csv.reader(file, delimiter=delimiter, strict=True))


def _header(lines: Iterator[tuple[int, list[str]]]) -> list[str]:
    return [name.strip() for name in next(lines, (0, []))[1]]


def _numbered(reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not blank with the line each begins on; a quoted cell may hold breaks."""
    begins = 1
    for cells in reader:
        if any(cell.strip() for cell in cells):
            yield begins, cells
        begins = reader.line_num + 1


def _plain(cell: str) -> str:
    """Return a cell without spaces around it and without the quote that keeps formulas from running."""
    text = cell.strip()
    return text[1:] if text.startswith("'") and text[1:].startswith(FORMULA_STARTS) else text

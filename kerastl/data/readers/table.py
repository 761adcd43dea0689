"""Read a CSV table of images: a row an image, its path, class, and who and where it comes from."""

from __future__ import annotations

import csv
import difflib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TextIO

from annotated_types import MinLen
from pydantic import Field

from kerastl.data.records import SPLIT_WORDS, Collection, Record, check_class_names, natural_order, pluralize
from kerastl.errors import Problem, Problems, RequestError
from kerastl.options import StrictModel

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
                    text = f"has {pluralize(len(cells), 'cell')}, the header has {len(header)}"
                    problems.append(Problem(f"line {line}", text))
    except UnicodeDecodeError as error:
        raise RequestError(f"The table {path} is not UTF-8: save it as CSV UTF-8.") from error
    except (OSError, csv.Error) as error:
        raise RequestError(f"The table {path} cannot be read: {error}.") from error
    twice = sorted({name for name in header if header.count(name) > 1})
    problems += [Problem("line 1", f"two columns are called {name!r}") for name in twice]
    refuse(path, problems)
    if not rows:
        raise RequestError(f"The table {path} holds no rows; a header and a row an image are wanted.")
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


Name = Annotated[str, MinLen(1)]
# What a column is called where the options do not say; the note names the one that was taken.
USUAL = {
    "label": ("label",),
    "split": ("split",),
    "group": ("group", "patient_id"),
    "domain": ("domain", "site"),
}


class Columns(StrictModel):
    """What the columns of the table are called.

    Args:
        path: the image's file.
        label: its class; an empty cell is unlabelled.
        split: train, val (validation, valid, dev) or test.
        group: what must stay together in one split, e.g. the patient.
        domain: where it comes from, e.g. the hospital.
        subgroups: columns whose values come along, for the scores to tell them apart; a recipe names them under
            evaluation.subgroups.
    """

    path: Name = "path"
    label: Name | None = None
    split: Name | None = None
    group: Name | None = None
    domain: Name | None = None
    subgroups: tuple[Name, ...] = ()


class Options(StrictModel):
    """Options of the reader `table`.

    Args:
        path: the CSV file, UTF-8, with a header; `,`, `;` or tab between cells.
        columns: what its columns are called, where not path, label, split, group (or patient_id) and
            domain (or site).
        domains: keep only rows with one of these in the column domain; empty: all rows.
        root: folder that the paths in the table are relative to; the table's own where not given.
    """

    path: Annotated[Path, Field(examples=["TABLE.csv"])]
    columns: Columns = Columns()
    domains: tuple[str, ...] = ()
    root: Path | None = None

    def problems(self) -> list[str]:
        """Return what is wrong with the places, without reading the table."""
        found = []
        if not self.path.is_file():
            held = "is a folder, a CSV file is wanted" if self.path.is_dir() else "does not exist"
            found.append(f"path: {self.path.absolute()} {held}")
        if self.root is not None and not self.root.is_dir():
            found.append(f"root: there is no folder {self.root.absolute()}")
        return found


def read_columns(options: Options) -> list[str]:
    """Return the names of the table's columns, whatever else is wrong with it.

    Raises:
        RequestError: the file cannot be read.
    """
    return header_of(options.path)


def read(options: Options, *, seed: int = 0, cache_dir: Path | None = None) -> Collection:  # noqa: ARG001
    """Return a record for each row.

    Raises:
        Problems: everything that is wrong with the table, with line numbers.
        RequestError: no such file, not UTF-8, no rows.
    """
    problems = [Problem("", text) for text in options.problems()]
    if problems:
        raise Problems(f"The table {options.path}", problems)
    header, rows = parsed(options.path)
    columns, notes = _columns(header, options, problems)
    refuse(options.path, problems)
    root = (options.root or options.path.parent).resolve()
    rows = _of_domains(rows, columns.get("domain"), options.domains, problems)
    records = _records(rows, columns, options.columns.subgroups, root, problems)
    names = natural_order(record.label for record in records if record.label is not None)
    problems += check_class_names(names)
    refuse(options.path, problems)
    outside = [record.path for record in records if Path(record.path).is_absolute()]
    if outside:
        number = pluralize(len(outside), "image")
        notes.append(f"{number} outside {root}, the first: {outside[0]}.")
    unlabeled = sum(record.label is None for record in records)
    if unlabeled:
        notes.append(f"{pluralize(unlabeled, 'image')} of {options.path.name} have no label.")
    return Collection(root, names, tuple(records), tuple(notes))


def _columns(
    header: list[str], options: Options, problems: list[Problem]
) -> tuple[dict[str, str], list[str]]:
    """Return the column of each of our names that the table has, and what was taken unasked."""
    columns, notes = {}, []
    for ours in ("path", *USUAL):
        wanted: str | None = getattr(options.columns, ours)
        if wanted is None:
            usual = [name for name in USUAL[ours] if name in header]
            if usual:
                columns[ours] = usual[0]
                notes.append(f"{options.path.name}: column {usual[0]!r} is taken as {ours}.")
            elif ours == "label" and nearest(ours, header):
                notes.append(f"{options.path.name}: {absent(ours, header)}")
        elif wanted in header:
            columns[ours] = wanted
        else:
            text = f"{absent(wanted, header)} Say which one holds it with columns.{ours}."
            problems.append(Problem(f"columns.{ours}", text))
    problems += [
        Problem("evaluation.subgroups", absent(name, header))
        for name in options.columns.subgroups
        if name not in header
    ]
    if options.domains and "domain" not in columns and options.columns.domain is None:
        problems.append(Problem("domains", "the table has no column for the domain: columns.domain"))
    return columns, notes


def _of_domains(
    rows: list[Row], column: str | None, domains: tuple[str, ...], problems: list[Problem]
) -> list[Row]:
    if not domains or column is None:
        return rows
    there = natural_order(row.cells[column] for row in rows)
    for name in domains:
        if name not in there:
            known = ", ".join(map(repr, there[:SHOWN]))
            problems.append(Problem("domains", f"no row is of the domain {name!r}; known: {known}"))
    return [row for row in rows if row.cells[column] in domains]


def _records(
    rows: list[Row], columns: dict[str, str], subgroups: tuple[str, ...], root: Path, problems: list[Problem]
) -> list[Record]:
    records: list[Record] = []
    lines: dict[str, int] = {}
    for row in rows:
        ours = {name: row.cells[column] for name, column in columns.items()}
        where = f"line {row.line}"
        file = _file(ours["path"], root)
        if isinstance(file, str):
            problems.append(Problem(where, file))
            continue
        path = _written(file, root)
        if path in lines:
            problems.append(Problem(where, f"{path} stands on line {lines[path]} already"))
            continue
        lines[path] = row.line
        split = SPLIT_WORDS.get(ours.get("split", "").lower())
        if ours.get("split") and split is None:
            allowed = "train, val (validation, valid, dev) or test"
            problems.append(Problem(where, f"split {ours['split']!r} must be {allowed}"))
        records.append(
            Record(
                path, file, ours.get("label") or None, split,
                ours.get("group") or None, ours.get("domain") or None,
                tuple((name, row.cells[name]) for name in subgroups),
            )
        )  # fmt: skip
    return records


def _written(file: Path, root: Path) -> str:
    """Return a path as outputs write it: relative to the root, the whole path of what lies outside."""
    if not file.is_relative_to(root):
        # The same place by another name, where a folder above is a link.
        file = file.parent.resolve() / file.name
    return (file.relative_to(root) if file.is_relative_to(root) else file).as_posix()


def _file(text: str, root: Path) -> Path | str:
    """Return the absolute file that a cell names, or what is wrong with it.

    A relative path may not lead out of the root: a table that came from elsewhere must not reach
    into other folders unseen. An absolute path says where it leads.
    """
    if not text or "\0" in text:
        return "the path is empty" if not text else "the path holds a NUL character"
    file = Path(os.path.normpath(root / text))
    if not Path(text).is_absolute() and not file.is_relative_to(root):
        return f"{text} leads out of {root}: set root, or write the whole path"
    try:
        return file if file.is_file() else f"there is no file {file}"
    except OSError as error:
        return f"{text[:80]} cannot be opened: {error.strerror}"

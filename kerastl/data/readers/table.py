"""Reader `table`: a CSV or Parquet file with one row per image: path, class, split, group and domain."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from annotated_types import MinLen
from pydantic import Field

from kerastl.data.cache import cache_folder
from kerastl.data.identity import (
    Identity,
    check_spellings,
    footer_of,
    is_missing,
    is_number,
    normalize,
    same_numbers,
)
from kerastl.data.layout import split_of
from kerastl.data.parquet import ParquetTable, image_file, is_parquet
from kerastl.data.readers import path_hint
from kerastl.data.records import Collection, Record, check_class_names, natural_order
from kerastl.errors import Problem, RequestError, missing_column, nearest_column, pluralize, raise_problems
from kerastl.options import StrictModel
from kerastl.runs import unquote_cell

DELIMITERS = ",;\t"
SHOWN = 20


Row = tuple[str, dict[str, str]]
"""Where a row is, e.g. `line 2` or `row 0`, and its cells by column name."""
NO_IMAGE = "there is no image. Remove the row from the table."
IMAGE = "\0image"
"""The cell of an image that is stored in the table."""


def parse_csv(path: Path) -> tuple[list[str], list[Row]]:
    """Return the header and the rows of a CSV table.

    Raises:
        Problems: Rows differ in length from the header, or two columns have the same name.
        RequestError: The file cannot be read or has no rows.
    """
    problems: list[Problem] = []
    rows: list[Row] = []
    lines = _csv_lines(path)
    header = _header(lines)
    for line, cells in lines:
        if len(cells) == len(header):
            texts = (unquote_cell(cell.strip()) for cell in cells)
            rows.append((f"line {line}", dict(zip(header, texts, strict=True))))
        else:
            message = f"has {pluralize(len(cells), 'cell')}, but the header has {len(header)}"
            problems.append(Problem(f"line {line}", message))
    problems += _repeated_names(header, "line 1")
    raise_problems(f"The table {path}", problems, "Nothing was run.", SHOWN)
    if not rows:
        raise RequestError(f"The table {path} has no rows. Expected a header and one row per image.")
    return header, rows


def _repeated_names(header: list[str], where: str) -> list[Problem]:
    repeated = sorted({name for name in header if header.count(name) > 1})
    return [Problem(where, f"several columns are named {name!r}") for name in repeated]


def _parquet_rows(table: ParquetTable, columns: dict[str, str], subgroups: tuple[str, ...]) -> list[Row]:
    """Return the rows of a Parquet table, with the cells of the given columns."""
    path = columns["path"]
    has_images = path in table.image_columns
    others = [name for key, name in columns.items() if key != "path" or not has_images]
    names = list(dict.fromkeys([*others, *subgroups]))
    rows = [
        (f"row {row}", dict(zip(names, (cell.strip() for cell in cells), strict=True)))
        for row, cells in enumerate(table.rows(names))
    ]
    if has_images:
        for (_, row), text in zip(rows, table.image_paths(path), strict=True):
            row[path] = IMAGE if text is None else text
    return rows


def _header(lines: Iterator[tuple[int, list[str]]]) -> list[str]:
    return [name.strip() for name in next(lines, (0, []))[1]]


def _csv_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the header and the rows, each with the line where it starts. Blank lines are skipped.

    Raises:
        RequestError: The file cannot be read.
    """
    try:
        # utf-8-sig drops the byte order mark that spreadsheets write.
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=max(DELIMITERS, key=first.count), strict=True)
            start = 1
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield start, cells
                # Quoted cells may contain line breaks.
                start = reader.line_num + 1
    except UnicodeDecodeError as error:
        raise RequestError(f"The table {path} is not UTF-8. Save it as CSV UTF-8.") from error
    except (OSError, ValueError, csv.Error) as error:
        raise RequestError(f"Cannot read the table {path}: {error}.") from error


Name = Annotated[str, MinLen(1)]
# Default names of columns.
DEFAULT_COLUMNS = {
    "label": ("label",),
    "split": ("split",),
    "group": ("group", "patient_id"),
    "domain": ("domain", "site"),
}


class Columns(StrictModel):
    """Names of the columns of the table.

    Args:
        path: Column with the paths of the images, or with the images themselves in a Parquet file: their bytes, or the
            images of a Hugging Face dataset. By default, the column path; in a Parquet file without it, the column
            image, or the only column with images.
        label: Column with the class labels. An image with an empty cell, or with nan, None, N/A, NULL or -, is
            unlabeled.
        split: Column with the splits: train, val (validation, valid, dev) or test.
        group: Column with the groups, such as patients. All images of a group are in one split. An image without a
            group is a group of its own.
        domain: Column with the domains, such as hospitals.
        subgroups: Columns for scores by subgroup. In a recipe, use evaluation.subgroups instead.
    """

    path: Name | None = None
    label: Name | None = None
    split: Name | None = None
    group: Name | None = None
    domain: Name | None = None
    subgroups: tuple[Name, ...] = ()


class Options(StrictModel):
    """Options of the reader `table`.

    Args:
        path: CSV file in UTF-8 with a header, or Parquet file. CSV cells are separated by `,`, `;` or tabs.
        columns: Names of the columns, if not path, label, split, group (or patient_id) and domain (or site).
        domains: Only rows of these domains are read. By default, all rows are read.
        root: Folder that the paths in the table are relative to. By default, the folder of the table.
        identity: `normalized` rejects cells of a column that differ only in case, spaces, Unicode forms or number
            formats (`7`, `7.0`, `007`), as spellings of one value. `exact` treats them as different values.
    """

    path: Annotated[Path, Field(examples=["TABLE.csv"])]
    columns: Columns = Columns()
    domains: tuple[str, ...] = ()
    root: Path | None = None
    identity: Identity = "normalized"

    def problems(self) -> list[str]:
        """Return the problems of the paths, without reading the table."""
        problems = []
        if not self.path.is_file():
            is_folder = self.path.is_dir()
            reason = "is a folder, not a CSV file" if is_folder else f"does not exist{path_hint(self.path)}"
            problems.append(f"path: {self.path.absolute()} {reason}")
        if self.root is not None and not self.root.is_dir():
            problems.append(f"root: the folder {self.root.absolute()} does not exist")
        return problems


def read_columns(options: Options) -> list[str]:
    """Return the column names of the table.

    Raises:
        RequestError: The file cannot be read.
    """
    if is_parquet(options.path):
        return ParquetTable(options.path).names
    return _header(_csv_lines(options.path))


def read(options: Options, *, seed: int = 0, cache_dir: Path | None = None) -> Collection:
    """Read the table and return one record per row. Images in files are not opened.

    Images in a Parquet file are written unchanged to files in the cache folder once.

    Args:
        options: Options of the reader.
        seed: Not used.
        cache_dir: The cache folder. None means the user's cache folder.

    Raises:
        Problems: All problems of the table, with line numbers.
        RequestError: The file cannot be read or has no rows, or the cache is not writable.
    """
    collection = read_names(options, seed=seed, cache_dir=cache_dir)
    if is_parquet(options.path):
        table = ParquetTable(options.path)
        if (column := _path_column(table.names, options, table.image_columns)) in table.image_columns:
            table.store_images(column, table.entry(column, cache_dir or cache_folder()))
    return collection


def read_names(options: Options, *, seed: int = 0, cache_dir: Path | None = None) -> Collection:  # noqa: ARG001
    """Return what `read` returns, but do not store images of a Parquet file, for checks that open no image."""
    problems: list[Problem] = []
    raise_problems(f"The table {options.path}", [Problem("", text) for text in options.problems()])
    table = ParquetTable(options.path) if is_parquet(options.path) else None
    header, rows = (table.names, list[Row]()) if table else parse_csv(options.path)
    problems += _repeated_names(header, "") if table else []
    columns, notes = _columns(header, options, problems, table.image_columns if table else [])
    raise_problems(f"The table {options.path}", problems, "Nothing was run.", SHOWN)
    entry = None
    if table:
        rows = _parquet_rows(table, columns, options.columns.subgroups)
        if not rows:
            raise RequestError(f"The table {options.path} has no rows. Expected one row per image.")
        if columns["path"] in table.image_columns:
            entry = table.entry(columns["path"], cache_dir or cache_folder())
    root = (options.root or options.path.parent).resolve()
    _clean_cells(rows, columns, options, problems, notes)
    rows = _of_domains(rows, columns.get("domain"), options.domains, problems, notes)
    located = [_locate(row[columns["path"]], where, options.path, entry, root) for where, row in rows]
    records = _records(rows, located, columns, options.columns.subgroups, problems)
    if table and problems and (unused := set(table.image_columns) - {*columns.values()}):
        hint = f"The column {min(unused)!r} contains images. To read them: columns.path: {min(unused)}"
        problems.insert(0, Problem("", hint))
    names = natural_order(record.label for record in records if record.label is not None)
    if "-1" in map(normalize, names) and len(names) > 2 and all(map(is_number, names)):
        notes.append(
            "Label -1 is read as a class. If it marks images without a label, leave these cells empty."
        )
    problems += check_class_names(names)  # spellings are reported with their lines
    raise_problems(f"The table {options.path}", problems, footer_of(problems), SHOWN)
    if outside := [record.path for record in records if Path(record.path).is_absolute()]:
        notes.append(f"Read {pluralize(len(outside), 'image')} outside {root}, e.g. {outside[0]}.")
    if unlabeled := sum(record.label is None for record in records):
        notes.append(f"Read {pluralize(unlabeled, 'unlabeled image')} from {options.path.name}.")
    return Collection(root, names, tuple(records), tuple(notes), identity=options.identity)


def _path_column(header: list[str], options: Options, image_columns: list[str]) -> str:
    """Return the column with the paths or the images."""
    default = "image" if "image" in image_columns else image_columns[0] if len(image_columns) == 1 else "path"
    return options.columns.path or ("path" if "path" in header else default)


def _columns(
    header: list[str], options: Options, problems: list[Problem], image_columns: list[str]
) -> tuple[dict[str, str], list[str]]:
    """Return the column of each field, and notes about the default names that are used."""
    path = _path_column(header, options, image_columns)
    columns, notes = {"path": path}, []
    if path not in header:
        message = f"{missing_column(path, header)} Set the column with columns.path."
        problems.append(Problem("columns.path", message))
    elif path not in ("path", options.columns.path):
        notes.append(f"{options.path.name}: using the images in column {path!r}.")
    used = {path, *sum(DEFAULT_COLUMNS.values(), ()), *options.columns.model_dump().values()}
    unused = [name for name in header if name not in {*used, *options.columns.subgroups}]
    for key in DEFAULT_COLUMNS:
        name: str | None = getattr(options.columns, key)
        if name is None:
            defaults = [default for default in DEFAULT_COLUMNS[key] if default in header]
            if defaults:
                columns[key] = defaults[0]
                notes.append(f"{options.path.name}: using column {defaults[0]!r} as {key}.")
            elif similar := nearest_column(key, unused):
                hint = f"column {similar!r} is not used. If it is the {key} column, set columns.{key}."
                notes.append(f"{options.path.name}: {hint}")
        elif name in header:
            columns[key] = name
        else:
            message = f"{missing_column(name, header)} Set the column with columns.{key}."
            problems.append(Problem(f"columns.{key}", message))
    for name in {*columns.values()}:
        spellings = [other for other in header if normalize(other) == normalize(name)]
        problems += check_spellings(dict.fromkeys(spellings, ""), "column names")
    problems += [
        Problem("evaluation.subgroups", missing_column(name, header))
        for name in options.columns.subgroups
        if name not in header
    ]
    if options.domains and "domain" not in columns and options.columns.domain is None:
        problems.append(Problem("domains", "the table has no domain column. Set it with columns.domain."))
    return columns, notes


def _clean_cells(
    rows: list[Row], columns: dict[str, str], options: Options, problems: list[Problem], notes: list[str]
) -> None:
    """Clear cells with missing values, and report values with several spellings, except numbers in subgroup columns."""
    identity, subgroups = options.identity, options.columns.subgroups
    for column in dict.fromkeys([*(columns[key] for key in DEFAULT_COLUMNS if key in columns), *subgroups]):
        lines: dict[str, str] = {}
        for line, row in rows:
            lines.setdefault(row[column], line)
        value = {text: "" if is_missing(text, identity) else text for text in lines}
        locations = {text: lines[text] for text in value if value[text]}
        if missing_words := [text for text in value if text and not value[text]]:
            where = ", ".join(f"{text!r} ({lines[text]})" for text in missing_words[:SHOWN])
            read = "is read as a missing value. If it is a value"
            if len(missing_words) > 1:
                read = "are read as missing values. If they are values"
            notes.append(f"Column {column!r}: {where} {read}, set identity: exact.")
        if column == columns.get("group") and (pairs := same_numbers(locations)):
            notes.append(
                f"Column {column!r}: {pluralize(len(pairs), 'value')} with a prefix and without it, e.g. "
                f"{' and '.join(f'{text!r} ({locations[text]})' for text in pairs[0])}. They are read as different groups. If "
                "they are the same patients, write each value in one way, because test scores are biased otherwise."
            )
        if column in subgroups and identity == "normalized" and all(map(is_number, locations)):
            first = {normalize(text): text for text in reversed(locations)}
            value |= {text: first[normalize(text)] for text in locations}
        elif column != columns.get("split"):
            problems += check_spellings(locations, f"column {column!r}", identity)
        for _, row in rows:
            row[column] = value[row[column]]
    if missing := sum(not row[columns["group"]] for _, row in rows) if "group" in columns else 0:
        notes.append(
            f"{pluralize(missing, 'image')} without a value in column {columns['group']!r}: each is its own group."
        )


def _of_domains(
    rows: list[Row], column: str | None, domains: tuple[str, ...], problems: list[Problem], notes: list[str]
) -> list[Row]:
    if not domains or column is None:
        return rows
    present = natural_order({cells[column] for _, cells in rows} - {""})
    if missing := sum(not cells[column] for _, cells in rows):
        notes.append(f"Ignored {pluralize(missing, 'row')} without a domain in column {column!r}.")
    for name in domains:
        if name not in present:
            known = ", ".join(map(repr, present[:SHOWN]))
            problems.append(Problem("domains", f"no row has the domain {name!r}. Known: {known}."))
    return [row for row in rows if row[1][column] in domains]


def _locate(cell: str, where: str, table: Path, entry: Path | None, root: Path) -> tuple[str, Path | str]:
    """Return the path of an image in outputs, and its file or what is wrong with it.

    Args:
        cell: The path of the image, or `IMAGE`.
        where: Where the row is.
        table: The table.
        entry: The cache entry for the images in a Parquet file, None if the table contains paths.
        root: Folder that paths in the table are relative to.
    """
    if cell == IMAGE and entry is not None:
        row = int(where.removeprefix("row "))
        return f"{table.name}#{row}", image_file(entry, row)
    file = _file(cell, root) if cell or entry is None else NO_IMAGE
    return ("", file) if isinstance(file, str) else (_output_path(file, root), file)


def _records(
    rows: list[Row], located: list[tuple[str, Path | str]], columns: dict[str, str], subgroups: tuple[str, ...],
    problems: list[Problem],
) -> list[Record]:  # fmt: skip
    records: list[Record] = []
    lines: dict[str, str] = {}
    for (where, row), (path, file) in zip(rows, located, strict=True):
        cells = {key: row[column] for key, column in columns.items()}
        if isinstance(file, str):
            problems.append(Problem(where, file))
            continue
        if path in lines:
            problems.append(Problem(where, f"{path} is already listed ({lines[path]})"))
            continue
        lines[path] = where
        split = split_of(cells.get("split", ""))
        if cells.get("split") and split is None:
            allowed = "train, val (validation, valid, dev) or test"
            problems.append(Problem(where, f"split must be {allowed}, got {cells['split']!r}"))
        records.append(
            Record(
                path, file, cells.get("label") or None, split,
                cells.get("group") or None, cells.get("domain") or None,
                tuple((name, row[name]) for name in subgroups),
            )
        )  # fmt: skip
    return records


def _output_path(file: Path, root: Path) -> str:
    """Return the path in outputs: relative to the root, or absolute outside of it."""
    if not file.is_relative_to(root):
        # A parent folder may be a link to the root.
        file = file.parent.resolve() / file.name
    return (file.relative_to(root) if file.is_relative_to(root) else file).as_posix()


def _file(text: str, root: Path) -> Path | str:
    """Return the absolute path of a cell, or what is wrong with it.

    A relative path must stay inside the root, so that a table from elsewhere cannot read other folders unnoticed.
    """
    if not text or "\0" in text:
        return "the path is empty" if not text else "the path contains a NUL character"
    file = Path(os.path.normpath(root / text))
    if not Path(text).is_absolute() and not file.is_relative_to(root):
        return f"{text} is outside of {root}. Set root, or use an absolute path."
    try:
        return file if file.is_file() else f"the file {file} does not exist"
    except OSError as error:
        return f"cannot open {text[:80]}: {error.strerror}"

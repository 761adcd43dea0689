"""The finished rows as Parquet. A Parquet file cannot be gone on with: JSON lines grow, and become one at the end."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from kerastl.errors import RequestError
from kerastl.export.predicting.rows import columns

CELLS_A_GROUP = 2**19
"""Cells that are held in memory at a time, and lie in one row group."""


def check_parquet() -> None:
    """Refuse what cannot be written, before any work.

    Raises:
        RequestError: pyarrow is not installed.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise RequestError("Parquet needs pyarrow. Install it: pip install 'kerastl[parquet]'")


def write_parquet(rows: Path, out: Path, class_names: Sequence[str]) -> None:
    """Write JSON lines as Parquet, a row group at a time.

    Args:
        rows: an object a line, as `rows.rows` writes.
        out: the columns of the CSV: `path`, `predicted` and `problem` text, `prob_<class>` float32; null
            where a file gave no picture, or had no problem. Text stands as it is, also what a spreadsheet would
            take for a formula.
        class_names: in the order of the columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = columns(class_names)
    types = [pa.string()] * 3 + [pa.float32()] * len(class_names)
    schema = pa.schema(list(zip(names, types, strict=True)))
    with rows.open(encoding="utf-8", newline="\n") as file, pq.ParquetWriter(out, schema) as writer:
        for group in _groups(file, max(1, CELLS_A_GROUP // len(names))):
            cells = zip(*(_cells(row, class_names) for row in group), strict=True)
            arrays = [pa.array(list(one), kind) for one, kind in zip(cells, types, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
    with out.open("rb+") as written:
        os.fsync(written.fileno())


def _groups(lines: Iterator[str], size: int) -> Iterator[list[dict[str, Any]]]:
    while group := [json.loads(line) for line in islice(lines, size)]:
        yield group


def _cells(row: dict[str, Any], class_names: Sequence[str]) -> list[Any]:
    told = row.get("probabilities", {})
    return [row["path"], row.get("predicted"), row.get("problem"), *map(told.get, class_names)]

"""The subgroup of each picture, decided over all pictures of a run before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kerastl.data import Record
from kerastl.evaluation import in_subgroups, is_cut


def with_subgroups(records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """Return the records with a subgroup instead of each cell, and a line for each column that was cut into ranges.

    Args:
        records: of source and target, each in its split.

    Raises:
        RequestError: a column has too many different texts.
    """
    told = [dict(record.subgroups) for record in records]
    names = dict.fromkeys(name for one in told for name in one)
    if not names:
        return list(records), []
    columns = {name: [one.get(name, "") for one in told] for name in names}
    found = in_subgroups(columns, [record.split == "train" for record in records])
    notes = [
        f"Subgroups by {name!r}: its numbers are cut at the quartiles of the training pictures."
        for name, values in columns.items()
        if is_cut(values)
    ]
    grouped = [
        replace(record, subgroups=tuple((name, found[name][row]) for name in names))
        for row, record in enumerate(records)
    ]
    return grouped, notes

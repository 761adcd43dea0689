"""Whether the tables of a recipe have the columns that its scores are to be told by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kerastl.errors import RequestError
from kerastl.recipe.plugins import Reader
from kerastl.recipe.schema import Recipe
from kerastl.recipe.tree import quoted
from kerastl.recipe.words import nearest

ColumnsOf = Callable[[str, Any], Sequence[str]]


def absent_columns(recipe: Recipe, columns_of: ColumnsOf) -> Iterator[str]:
    """Yield a message for each column that a table lacks.

    Args:
        recipe: sound; where it names columns, its readers have some.
        columns_of: a reader's name and options to the names of its columns; a table that cannot be read is left to the
            run, which says what is wrong with it.
    """
    wanted = recipe.evaluation.subgroups
    readers: dict[str, Reader] = {}
    if recipe.data.reader is not None:
        readers["data.reader"] = recipe.data.reader
    if recipe.target is not None and recipe.target.reader != recipe.data.reader:
        readers["target.reader"] = recipe.target.reader
    told: list[Sequence[str]] = []
    for path, reader in readers.items() if wanted else ():
        try:
            known = columns_of(reader.name, reader.options)
        except RequestError:
            continue
        if known in told:
            continue  # the same table, or one like it: the same is wrong with both
        told.append(known)
        for name in wanted:
            if name not in known:
                near = nearest(name, known)
                hint = f" Did you mean {quoted(near)}?" if near else ""
                columns = ", ".join(quoted(one, "") for one in known)
                yield f"the table of {path} has no column {quoted(name)}.{hint} Columns: {columns}."

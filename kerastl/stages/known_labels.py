"""Whether the labels of a domain can be learnt from, and whether the target's are those that the source knows."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from kerastl import recipe as recipes
from kerastl import registry
from kerastl.data import Collection
from kerastl.errors import Problem, Problems, RequestError
from kerastl.stages.whose import place_of

REMEDY = (
    "Mend them, or run without them: --set target.labels=none takes such pictures as unlabelled."
)


def check_labels(key: str, reader: recipes.Reader, found: Collection) -> None:
    """Check that pictures of two classes have labels.

    Args:
        key: of the reader in the recipe, `data.reader` or `target.reader`.
        reader: that read them.
        found: what it gave.

    Raises:
        RequestError: no label, or one class; where the pictures come from, and what to set.
    """
    place = place_of(reader)
    where = f"{key}: {place if place is not None else reader.name}"
    labels = {record.label for record in found.records} - {None}
    if not labels:
        raise RequestError(f"{where}: no picture has a label. {_how_to_label(key, reader)}")
    if len(labels) == 1:
        raise RequestError(
            f"{where} holds only the class {labels.pop()!r}: at least two are needed."
        )


def _how_to_label(key: str, reader: recipes.Reader) -> str:
    told = "Give each picture its class."
    if hasattr(reader.options, "columns"):
        columns = ", ".join(registry.columns_of(reader.name, reader.options))
        told = f"Its columns are {columns}: say which one holds them, --set {key}.columns.label=COLUMN."
    return told + (" Or learn without them: --set target.labels=none." if "target" in key else "")


def check_classes(found: Collection, class_names: Sequence[str]) -> None:
    """Check that the target's classes are among the source's.

    Raises:
        Problems: they are not; all that are strange, with the nearest name and the first picture.
    """
    counts = Counter(record.label for record in found.records)
    problems = []
    for name in found.class_names:
        if name in class_names:
            continue
        first = next(record.path for record in found.records if record.label == name)
        near = difflib.get_close_matches(name.lower(), [one.lower() for one in class_names], n=1)
        meant = next((one for one in class_names if near and one.lower() == near[0]), None)
        hint = f" Did you mean {meant!r}?" if meant else ""
        what = f"is not among the source's: {', '.join(class_names)}.{hint} Pictures: {counts[name]}, the first {first}"
        problems.append(Problem(f"class {name!r}", what))
    if problems:
        raise Problems("The target", problems, REMEDY)


def without_strange_labels(found: Collection, class_names: Sequence[str]) -> Collection:
    """Return a target whose labels are not learnt from, those that the source does not know left out, with a note."""
    strange = [name for name in found.class_names if name not in class_names]
    if not strange:
        return found
    records = tuple(
        replace(record, label=None) if record.label in strange else record
        for record in found.records
    )
    count = sum(record.label in strange for record in found.records)
    note = (
        f"{count} pictures of the target are of classes that the source does not know ({', '.join(map(repr, strange))}): "
        "they are taken as unlabelled, and no score tells of them."
    )
    known = tuple(name for name in found.class_names if name in class_names)
    return replace(found, records=records, class_names=known, notes=(*found.notes, note))

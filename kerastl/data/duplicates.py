"""Copies of images: files with the same bytes, in one dataset or in two domains."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, TypeVar

from kerastl.data.records import SPLITS, Collection, Record, hash_contents
from kerastl.errors import Problem, join_words, pluralize, raise_problems

Duplicates = Literal["auto", "refuse", "keep_together", "allow"]
"""What to do with copies. See `data.duplicates` in docs/recipes.md."""
Key = TypeVar("Key", str, tuple[str, ...])
SHOWN = 10
SHOWN_FILES = 3
FOOTER = (
    "Remove the copies or correct their labels and splits. To accept copies as they are: --set data.duplicates={value} "
    "(duplicates='{value}' in Python). Nothing was run."
)


def group_key(record: Record) -> str:
    """Return the key of the images that stay in one split with a record: its group, or its copies, or only itself."""
    if record.unit is not None:
        return record.unit
    return f"group:{record.group}" if record.group is not None else f"path:{record.path}"


def find_copies(records: Sequence[Record]) -> list[list[Record]]:
    """Return the records of each image that occurs more than once, in the order of their first record.

    Files without a known hash are read only if another one has the same size.
    """
    unknown = [record.file for record in records if not record.sha256 and record.file.is_file()]
    sizes = {file: file.stat().st_size for file in unknown}
    counts = Counter(sizes.values())
    files = [file for file, size in sizes.items() if counts[size] > 1]
    hashes = dict(zip(files, hash_contents(files), strict=True))
    copies = defaultdict[str, list[Record]](list)
    for record in records:
        copies[record.sha256 or hashes.get(record.file) or str(record.file)].append(record)
    return [members for members in copies.values() if len(members) > 1]


def join_copies(collection: Collection, duplicates: Duplicates = "auto") -> Collection:
    """Return the collection with all copies of an image in one unit of the split, and a note about them.

    Args:
        collection: Images before they are split. Given splits are those of the records.
        duplicates: `auto` rejects copies with different labels or given splits. `keep_together` rejects copies with
            different given splits. `refuse` rejects all copies. `allow` accepts all copies, in any splits.

    Raises:
        Problems: Copies are rejected. Each problem lists the files.
    """
    copies = find_copies(collection.records)
    if not copies:
        return collection
    reasons = [(members, _rejection(members, duplicates)) for members in copies]
    problems = [Problem(_listed(members), reason[0]) for members, reason in reasons if reason]
    value = min(reason[1] for _, reason in reasons if reason) if problems else ""
    subject = f"The dataset {collection.root}" if collection.root else "The dataset"
    raise_problems(subject, problems, FOOTER.format(value=value), SHOWN)
    treatment = "They may be in different splits." if duplicates == "allow" else "They stay in one split."
    number = f"{sum(map(len, copies)) - len(copies):,} of {len(collection.records):,} images"
    note = f"Copies (files with the same bytes): {number}, e.g. {_listed(copies[0])}. {treatment}"
    conflicting = [members for members in copies if len(_labels(members)) > 1]
    if conflicting:
        note += f" Warning: {pluralize(len(conflicting), 'image')} with different labels, e.g. {_listed(conflicting[0])}."
    if duplicates == "allow":
        return collection.with_records((replace(record, unit=None) for record in collection.records), note)
    units = {key: min(joined) for key, joined in _joined(copies, group_key).items()}
    records = (
        replace(record, unit=units.get(group_key(record), record.unit)) for record in collection.records
    )
    return collection.with_records(records, note)


def _rejection(members: Sequence[Record], duplicates: Duplicates) -> tuple[str, Duplicates] | None:
    """Return why copies are rejected, and the value that accepts them, or None if they are accepted."""
    labels = _labels(members)
    splits = sorted({record.split for record in members if record.split is not None}, key=SPLITS.index)
    if duplicates == "allow":
        return None
    if len(splits) > 1:
        return f"the same image is in {join_words(splits, 'and')}", "allow"
    if len(labels) > 1 and duplicates != "keep_together":
        return (
            f"the same image has the labels {join_words([repr(label) for label in labels], 'and')}",
            "keep_together",
        )
    return ("the same image", "keep_together") if duplicates == "refuse" else None


def _labels(members: Sequence[Record]) -> list[str]:
    return sorted({record.label for record in members if record.label is not None})


def _listed(members: Sequence[Record]) -> str:
    paths = [record.path for record in members[:SHOWN_FILES]]
    more = len(members) - len(paths)
    return ", ".join(paths) + f" and {more:,} more" if more else join_words(paths, "and")


def names_of_copies(records: Sequence[Record]) -> tuple[str, ...]:
    """Return one name for all images of groups that share an image.

    Images of other groups have an empty name. An image without a group is a group of its own, and groups of
    different domains are different groups.
    """

    def group(record: Record) -> tuple[str, ...]:
        return record.domain or "", record.group or "", "" if record.group else record.path

    joined = _joined(find_copies(records), group)
    return tuple("/".join(filter(None, min(joined.get(group(record), [()])))) for record in records)


def _joined(copies: Sequence[Sequence[Record]], group: Callable[[Record], Key]) -> dict[Key, set[Key]]:
    """Map each group that shares an image with another group to all groups that are joined with it."""
    from scipy.cluster.hierarchy import DisjointSet

    groups = DisjointSet({group(record) for members in copies for record in members})
    for first, *others in copies:
        for other in others:
            groups.merge(group(first), group(other))
    return {key: subset for subset in groups.subsets() if len(subset) > 1 for key in subset}

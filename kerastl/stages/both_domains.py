"""That nobody is learnt from in one domain and tested in the other."""

from __future__ import annotations

from dataclasses import replace

from kerastl.data import Collection, Record
from kerastl.errors import RequestError

SHOWN = 5
TESTED = ("target_test", "target_val")


def kept_apart(source: Collection, target: Collection, *, one_table: bool) -> Collection:
    """Return the target without what would be tested in one domain and learnt from in the other.

    Where both domains stand in one table, a group of one name is one person. Who is learnt from or validates at the source is
    not tested at the target but joins what is learnt from there, and who is tested at the source is not learnt from at the
    target. In two tables equal names may be chance: they are noted and nothing is moved.

    Args:
        source, target: divided; files are absolute.
        one_table: whether the two are rows of one table.

    Raises:
        RequestError: the same picture stands in both.
    """
    _refuse_same_pictures(source, target)
    roles = {one.group: one.split for one in source.records if one.group}
    both = {one.group for one in target.records if one.group in roles}
    if not both:
        return target
    people = f"{len(both)} {'group' if len(both) == 1 else 'groups'} (patients) of the target"
    if not one_table:
        note = (
            f"{people} have names that the source's have, too, as {min(map(str, both))!r}. If they are the same people, the target's "
            "test is not unseen: put both domains into one table, with a column domain."
        )
        return replace(target, notes=(*target.notes, note))
    labels_learnt = any(one.split == "target_train" for one in target.records)
    kept = [_moved(one, roles.get(one.group or ""), labels_learnt) for one in target.records]
    left = sum(one is None for one in kept)
    note = (
        f"{people} are at the source, too: whoever is learnt from or validates there is not tested at the target, and "
        f"whoever is tested there is not learnt from ({left} pictures of the target are left out)."
    )
    records = tuple(one for one in kept if one is not None)
    return replace(target, records=records, notes=(*target.notes, note))


def _moved(record: Record, role: str | None, labels_learnt: bool) -> Record | None:
    """Return a picture of the target in the split that its group's role at the source allows; None: in none."""
    if role is None:
        return record
    if role == "test":
        return record if record.split == "target_test" else None
    if record.split not in TESTED:
        return record
    if labels_learnt and record.split == "target_val":
        return replace(record, split="target_train")
    return replace(record, label=None, split="target_unlabelled")


def _refuse_same_pictures(source: Collection, target: Collection) -> None:
    known = {one.file for one in source.records}
    same = [one.path for one in target.records if one.file in known]
    if same:
        raise RequestError(
            f"{len(same)} pictures of the target are pictures of the source, too: {', '.join(same[:SHOWN])}"
            f"{', ...' if len(same) > SHOWN else ''}. A picture is of one domain: name the target's own, or for one "
            "table of both domains write target.domains."
        )

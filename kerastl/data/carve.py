"""Take whole groups out of a set of pictures until a fraction is reached, as like the whole as can be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerastl.data.records import Record, count_of
from kerastl.errors import Problem, Problems, RequestError

STREAM = 0x5711  # keeps the shuffle of groups apart from every other use of the seed


@dataclass(frozen=True)
class Groups:
    """Groups in a shuffled order, and their pictures by class.

    Args:
        keys: one for each group.
        counts: `[groups, classes]` int64.
    """

    keys: tuple[str, ...]
    counts: Any


def key_of(record: Record) -> str:
    """Return what stays together: the group, or the picture itself; the two can never be equal."""
    return f"group:{record.group}" if record.group is not None else f"path:{record.path}"


def shuffled_groups(records: Sequence[Record], class_names: Sequence[str], seed: int) -> Groups:
    """Gather labelled records into groups, sorted and then shuffled, so that their order is no matter."""
    columns = {name: column for column, name in enumerate(class_names)}
    pictures = Counter((key_of(record), columns[record.label or ""]) for record in records)
    keys = sorted({key for key, _ in pictures})
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, STREAM], np.uint64)))
    shuffled = tuple(keys[place] for place in generator.permutation(len(keys)))
    rows = {key: row for row, key in enumerate(shuffled)}
    counts = np.zeros((len(keys), len(columns)), np.int64)
    for (key, column), number in pictures.items():
        counts[rows[key], column] = number
    return Groups(shuffled, counts)


def carve(
    records: Sequence[Record],
    class_names: Sequence[str],
    wanted: dict[str, float],
    *,
    seed: int,
    allow_rare: bool,
) -> tuple[dict[str, str], list[str]]:
    """Choose which groups leave train.

    Args:
        records: labelled pictures, all of them in train so far.
        class_names: every class.
        wanted: the fraction of the pictures, 0 to 1, for each new split.
        seed: another seed, other groups.
        allow_rare: a class with fewer groups than splits stays in train, instead of being refused.

    Returns:
        The split of each group that leaves train, and the names of the classes that are too rare.

    Raises:
        Problems: classes are too rare.
        RequestError: groups of several classes are too entangled.
    """
    groups = shuffled_groups(records, class_names, seed)
    free, rare = _without_rare(groups.counts, len(wanted) + 1)
    if rare.any() and not allow_rare:
        _refuse_rare(groups.counts, class_names, rare, len(wanted) + 1)
    stays = (groups.counts[~free] > 0).any(0)
    total = groups.counts.sum(0)
    chosen: dict[str, str] = {}
    for place, (name, fraction) in enumerate(wanted.items()):
        still_to_come = len(wanted) - place - 1
        reserve = np.where(stays, 0, 1) + still_to_come
        rows = np.flatnonzero(free)
        taken = rows[_choose(groups.counts[rows], total * fraction, needed=~rare, reserve=reserve)]
        free[taken] = False
        chosen |= {groups.keys[row]: name for row in taken}
    return chosen, [class_names[column] for column in np.flatnonzero(rare).tolist()]


def _refuse_rare(counts: Any, class_names: Sequence[str], rare: Any, needed: int) -> None:
    holds = (counts > 0).sum(0)
    problems = [
        Problem(
            f"class {class_names[column]!r}",
            f"has {count_of(int(holds[column]), 'group')} (patients, or single pictures), "
            f"at least {needed} are needed, one for each split",
        )
        for column in np.flatnonzero(rare).tolist()
    ]
    footer = "Add pictures, or set allow_rare to keep the whole of such a class in train."
    raise Problems("The data set", problems, footer)


def _without_rare(counts: Any, needed: int) -> tuple[Any, Any]:
    """Return which groups may leave train, and which classes are too rare for `needed` splits.

    A group that holds a rare class stays in train, which may make another class rare: repeated
    until nothing changes.
    """
    holds = counts > 0
    rare = holds.sum(0) < needed
    while True:
        free = ~holds[:, rare].any(1)
        # What stays serves train; what is free must serve the other splits.
        stays = holds[~free].any(0)
        now = rare | (holds[free].sum(0) < needed - stays)
        if (now == rare).all():
            return free, rare
        rare = now


def _choose(counts: Any, target: Any, *, needed: Any, reserve: Any) -> Any:
    """Choose the groups of one split one by one, each time the one that leaves the least error.

    First every needed class gets a group, the class with the fewest to choose from first; then groups
    are added as long as that brings the number of pictures nearer to the target.

    Args:
        counts: `[groups, classes]` of the groups that may be taken, in their shuffled order.
        target: `[classes]` pictures wanted.
        needed: `[classes]` bool: must be in the split.
        reserve: `[classes]` how many groups of each needed class must be left over.

    Returns:
        `[taken]` rows of `counts`.
    """
    # Groups with the same numbers are alike: 70,000 single pictures of 10 classes are 10 kinds.
    kinds, waiting = _kinds(counts)
    holds, sizes, weights = kinds > 0, kinds.sum(1), 1 / np.maximum(target, 1)
    have = np.zeros(counts.shape[1], np.int64)
    taken: list[int] = []
    left = (counts > 0).sum(0)
    while True:
        may_go = (left - 1 >= reserve) | ~needed
        candidates = np.array([bool(queue) for queue in waiting]) & (may_go | ~holds).all(1)
        missing = np.flatnonzero(needed & (have == 0))
        if len(missing):
            choices = [(holds[candidates, column].sum(), column) for column in missing]
            candidates &= holds[:, min(choices)[1]]
        else:
            gap = target.sum() - have.sum()
            candidates &= np.abs(gap - sizes) < abs(gap)
        if not candidates.any():
            if len(missing):
                _refuse_entangled()
            return np.array(taken, np.int64)
        rows = np.flatnonzero(candidates)
        error = ((have + kinds[rows] - target) ** 2 * weights).sum(1)
        best = int(rows[np.argmin(error)])
        taken.append(waiting[best].pop())
        have, left = have + kinds[best], left - holds[best]


def _kinds(counts: Any) -> tuple[Any, list[list[int]]]:
    """Return the distinct rows, as first met, and for each its places, the first met last."""
    found: dict[tuple[int, ...], list[int]] = {}
    for row, numbers in enumerate(map(tuple, counts.tolist())):
        found.setdefault(numbers, []).append(row)
    kinds = np.array(list(found), np.int64).reshape(-1, counts.shape[1])
    return kinds, [places[::-1] for places in found.values()]


def _refuse_entangled() -> None:
    raise RequestError(
        "The groups hold several classes each and cannot be divided so that every class is in every "
        "split: use another seed, other fractions, or set allow_rare."
    )

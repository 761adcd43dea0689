"""Who trains, who validates, who tests: stratified by class, groups kept whole, the same for one seed.

The order of the files does not matter: groups are sorted before they are shuffled.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from kerastl.data.records import SPLITS, Collection, Record, pluralize
from kerastl.errors import Problem, Problems, RequestError

STREAM = 0x5711  # keeps the shuffle of groups apart from every other use of the seed


@dataclass(frozen=True)
class Groups:
    """Groups in a shuffled order, and their images by class.

    Args:
        keys: one for each group.
        counts: `[groups, classes]` int64.
    """

    keys: tuple[str, ...]
    counts: Any


def group_key(record: Record) -> str:
    """Return what stays together: the group, or the image itself; the two can never be equal."""
    return f"group:{record.group}" if record.group is not None else f"path:{record.path}"


def shuffled_groups(records: Sequence[Record], class_names: Sequence[str], seed: int) -> Groups:
    """Gather labelled records into groups, sorted and then shuffled, so that their order is no matter."""
    columns = {name: column for column, name in enumerate(class_names)}
    images = Counter((group_key(record), columns[record.label or ""]) for record in records)
    keys = sorted({key for key, _ in images})
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, STREAM], np.uint64)))
    shuffled = tuple(keys[place] for place in generator.permutation(len(keys)))
    rows = {key: row for row, key in enumerate(shuffled)}
    counts = np.zeros((len(keys), len(columns)), np.int64)
    for (key, column), number in images.items():
        counts[rows[key], column] = number
    return Groups(shuffled, counts)


def choose_groups(
    records: Sequence[Record],
    class_names: Sequence[str],
    wanted: dict[str, float],
    *,
    seed: int,
    allow_rare: bool,
) -> tuple[dict[str, str], list[str]]:
    """Choose which groups leave train.

    Args:
        records: labelled images, all of them in train so far.
        class_names: every class.
        wanted: the fraction of the images, 0 to 1, for each new split.
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
            f"has {pluralize(int(holds[column]), 'group')} (patients, or single images), "
            f"at least {needed} are needed, one for each split",
        )
        for column in np.flatnonzero(rare).tolist()
    ]
    footer = "Add images, or set allow_rare to keep the whole of such a class in train."
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
    are added as long as that brings the number of images nearer to the target.

    Args:
        counts: `[groups, classes]` of the groups that may be taken, in their shuffled order.
        target: `[classes]` images wanted.
        needed: `[classes]` bool: must be in the split.
        reserve: `[classes]` how many groups of each needed class must be left over.

    Returns:
        `[taken]` rows of `counts`.
    """
    # Groups with the same numbers are alike: 70,000 single images of 10 classes are 10 kinds.
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


SHOWN = 5


def split(
    collection: Collection, *, val_fraction: float, test_fraction: float, seed: int, allow_rare: bool = False
) -> Collection:
    """Give every labelled image a split: train, val or test.

    The images of val and of test are as near to their fraction as whole groups allow (within one
    group), unless one group a class is already more. Splits that came with the data are kept; one
    that is missing is carved out of train. Unlabelled images are left out, with a note.

    Args:
        collection: what a reader gave.
        val_fraction, test_fraction: 0 to 1, of the labelled images, or of those in train where splits
            came with the data; 0 for none.
        seed: another seed, other groups.
        allow_rare: a class with too few groups goes wholly to train, instead of being refused.

    Raises:
        Problems: a class with too few groups; a ready-made split that divides a group.
    """
    collection = _labeled_only(collection)
    if len({record.label for record in collection.records}) == 1:
        only = collection.records[0].label
        raise RequestError(f"Only the class {only!r} has images: at least two are needed.")
    return _divided(collection, val_fraction, test_fraction, seed, allow_rare)


def _divided(
    collection: Collection, val_fraction: float, test_fraction: float, seed: int, allow_rare: bool
) -> Collection:
    """Return labelled images, each in its split."""
    _check_whole_groups(collection.records)
    given_splits = {record.split for record in collection.records}
    if given_splits - {None} and None in given_splits:
        raise RequestError("Some images have a ready-made split and some have none: give all or none.")
    wanted = {"test": test_fraction, "val": val_fraction}
    wanted = {name: share for name, share in wanted.items() if share > 0 and name not in given_splits}
    free = [record for record in collection.records if record.split in (None, "train")]
    # A fraction of the whole cannot be asked of a part: what is carved is a fraction of train.
    chosen, rare = choose_groups(free, collection.class_names, wanted, seed=seed, allow_rare=allow_rare)
    records = tuple(
        record
        if record.split in ("val", "test")
        else replace(record, split=chosen.get(group_key(record), "train"))
        for record in collection.records
    )
    notes = [f"Class {name!r} has too few groups to be divided: all of it is in train." for name in rare]
    return replace(collection, records=records, notes=(*collection.notes, *notes))


def split_target(
    collection: Collection,
    *,
    labels: Literal["none", "few", "all"],
    groups_per_class: int = 4,
    val_fraction: float = 0.15,
    test_fraction: float = 0.3,
    seed: int,
    allow_rare: bool = False,
) -> Collection:
    """Divide the target domain into target_train, target_val, target_test and target_unlabelled.

    Args:
        collection: images of the target; they may be unlabelled when `labels` is none.
        labels: `all`: as a source is divided. `few`: the labels of `groups_per_class` groups a class
            are kept in target_train, there is no target_val. `none`: everything but the test set is
            target_unlabelled. Records of target_unlabelled carry no label, so none can leak. Unlabelled
            images join it, but for those of groups that are tested.
        groups_per_class: for `few`.
        val_fraction, test_fraction: as in `split`; val only for `all`.
        seed, allow_rare: as in `split`.

    Raises:
        RequestError: labels are wanted and there are none, or too few groups.
    """
    unlabeled = [record for record in collection.records if record.label is None]
    if labels == "none" and len(unlabeled) == len(collection.records):
        return replace(collection, records=tuple(_without_label(unlabeled)))
    share = val_fraction if labels == "all" else 0.0
    if labels != "all":
        # Without the unlabelled, which are trained on too: `split` would note that they are left out.
        labelled = [record for record in collection.records if record.label is not None]
        collection = _val_to_train(replace(collection, records=tuple(labelled)))
    if labels == "none":
        # Nothing is learnt from labels: images of one class can be tested, too.
        divided = _divided(collection, share, test_fraction, seed, allow_rare)
    else:
        divided = split(
            collection, val_fraction=share, test_fraction=test_fraction, seed=seed, allow_rare=allow_rare
        )  # fmt: skip
    named = replace(
        divided, records=tuple(replace(record, split=f"target_{record.split}") for record in divided.records)
    )
    if labels == "all":
        return named
    if labels == "few":
        named = keep_few_labels(named, groups_per_class=groups_per_class, seed=seed, allow_rare=allow_rare)
    else:
        named = _keep_labels(named, frozenset())
    return _join_unlabeled(named, unlabeled)


def keep_few_labels(
    collection: Collection, *, groups_per_class: int, seed: int, allow_rare: bool = False
) -> Collection:
    """Keep the labels of a few groups of target_train; the rest becomes target_unlabelled.

    The groups of one number are among those of every larger one.

    Args:
        collection: a target with the split target_train.
        groups_per_class: how many groups that hold the class are labelled, for each class.
        seed: which ones.
        allow_rare: a class with fewer groups gives all it has.

    Raises:
        Problems: a class has fewer groups in target_train.
    """
    pool = [record for record in collection.records if record.split == "target_train"]
    groups = shuffled_groups(pool, collection.class_names, seed)
    holds = groups.counts > 0
    problems = [
        Problem(f"class {name!r}", f"has {number}, {groups_per_class} are wanted (groups_per_class)")
        for name, number in zip(collection.class_names, holds.sum(0), strict=True)
        if number < groups_per_class and not allow_rare
    ]
    if problems:
        raise Problems("The target, by groups outside its test set,", problems)
    picked = np.zeros(len(groups.keys), bool)
    # One more group a class in each round: who is picked for a number is picked for every larger one, too.
    for number in range(1, min(groups_per_class, len(groups.keys)) + 1):
        for column in np.argsort(holds.sum(0), kind="stable"):
            fresh = np.flatnonzero(holds[:, column] & ~picked)
            if (picked & holds[:, column]).sum() < number:
                picked[fresh[:1]] = True
    return _keep_labels(
        collection, frozenset(key for key, is_in in zip(groups.keys, picked, strict=True) if is_in)
    )


def _keep_labels(collection: Collection, kept: frozenset[str]) -> Collection:
    def divided(record: Record) -> Record:
        if record.split != "target_train" or group_key(record) in kept:
            return record
        return replace(record, label=None, split="target_unlabelled")

    return replace(collection, records=tuple(divided(record) for record in collection.records))


def _join_unlabeled(divided: Collection, unlabeled: Sequence[Record]) -> Collection:
    """Add unlabelled images to target_unlabelled, but for those of a group that is tested or validates."""
    kept_out = {group_key(one) for one in divided.records if one.split in ("target_val", "target_test")}
    joining = [record for record in unlabeled if group_key(record) not in kept_out]
    records = (*divided.records, *_without_label(joining))
    left_out = len(unlabeled) - len(joining)
    if not left_out:
        return replace(divided, records=records)
    note = (
        f"Left out {pluralize(left_out, 'image')} of the target without a label: other images of the "
        "same groups are in its test set, so none may be trained on."
    )
    return replace(divided, records=records, notes=(*divided.notes, note))


def _without_label(records: Iterable[Record]) -> list[Record]:
    return [replace(record, label=None, split="target_unlabelled") for record in records]


def _val_to_train(collection: Collection) -> Collection:
    records = (
        replace(record, split="train") if record.split == "val" else record for record in collection.records
    )
    return replace(collection, records=tuple(records))


def _labeled_only(collection: Collection) -> Collection:
    labelled = tuple(record for record in collection.records if record.label is not None)
    if not labelled:
        raise RequestError("No image has a label: there is nothing to divide by class.")
    left_out = len(collection.records) - len(labelled)
    if not left_out:
        return collection
    note = f"Left out {pluralize(left_out, 'image')} without a label."
    return replace(collection, records=labelled, notes=(*collection.notes, note))


def _check_whole_groups(records: Sequence[Record]) -> None:
    places: dict[str, set[str]] = defaultdict(set)
    for record in records:
        if record.group is not None and record.split is not None:
            places[record.group].add(record.split)
    torn = sorted(group for group, splits in places.items() if len(splits) > 1)
    if torn:
        problems = [
            Problem(f"group {group!r}", "is in " + " and ".join(sorted(places[group], key=SPLITS.index)))
            for group in torn
        ]
        raise Problems(
            "The ready-made split",
            problems,
            "What one group is trained on must not be tested on it: mend the split, or drop it.",
            shown=SHOWN,
        )

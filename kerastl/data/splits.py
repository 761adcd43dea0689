"""Stratified splits by group into train, validation and test, reproducible for a seed.

Groups are sorted before they are shuffled, so the order of the files does not matter.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence, Set
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge

from kerastl.data.duplicates import Duplicates, group_key, join_copies
from kerastl.data.identity import footer_of
from kerastl.data.records import SPLITS, Collection, Record, check_class_names, check_group_names
from kerastl.errors import Problem, RequestError, pluralize, raise_problems, suggest_arguments
from kerastl.options import check_arguments
from kerastl.recipe import Seed, Split
from kerastl.tasks import SINGLE_LABEL

STREAM = 0x5711  # random stream of the shuffle, different from other uses of the seed


def shuffled_groups(labeled: Collection, seed: int) -> tuple[list[str], Any]:
    """Return the keys of the groups of labeled images, and their images per class: `[num_groups, num_classes]` int64.

    Groups are sorted, then shuffled with the seed.
    """
    labels = SINGLE_LABEL.encode([record.label for record in labeled.records], labeled.class_names).tolist()
    images = Counter(zip(map(group_key, labeled.records), labels, strict=True))
    keys = sorted({key for key, _ in images})
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, STREAM], np.uint64)))
    shuffled = [keys[index] for index in generator.permutation(len(keys))]
    rows = {key: row for row, key in enumerate(shuffled)}
    counts = np.zeros((len(keys), len(labeled.class_names)), np.int64)
    for (key, column), number in images.items():
        counts[rows[key], column] = number
    return shuffled, counts


def choose_groups(
    labeled: Collection, fractions: dict[str, float], *, seed: int, allow_rare: bool
) -> tuple[dict[str, str], list[str]]:
    """Choose the groups of the new splits.

    Args:
        labeled: Labeled images, all in train.
        fractions: Fraction of the images for each new split, 0 to 1.
        seed: Seed of the shuffle.
        allow_rare: Whether a class with fewer groups than splits stays in train instead of raising an error.

    Returns:
        The new split of each group that leaves train, and the names of the rare classes.

    Raises:
        Problems: Classes have fewer groups than splits.
        RequestError: Groups contain several classes and cannot be divided.
    """
    keys, counts = shuffled_groups(labeled, seed)
    free, rare = _find_rare(counts, len(fractions) + 1)
    if not allow_rare:
        _refuse_rare(counts, labeled.class_names, rare, len(fractions) + 1)
    stays = (counts[~free] > 0).any(0)
    total = counts.sum(0)
    chosen: dict[str, str] = {}
    for position, (name, fraction) in enumerate(fractions.items()):
        remaining_splits = len(fractions) - position - 1
        reserve = np.where(stays, 0, 1) + remaining_splits
        rows = np.flatnonzero(free)
        taken = rows[_choose(counts[rows], total * fraction, needed=~rare, reserve=reserve)]
        free[taken] = False
        chosen |= {keys[row]: name for row in taken}
    return chosen, [labeled.class_names[column] for column in np.flatnonzero(rare).tolist()]


def _refuse_rare(counts: Any, class_names: Sequence[str], rare: Any, needed: int) -> None:
    holds = (counts > 0).sum(0)
    problems = [
        Problem(
            f"class {class_names[column]!r}",
            f"has {pluralize(int(holds[column]), 'group')} (patients or single images), "
            f"but needs at least {needed}, one for each split",
        )
        for column in np.flatnonzero(rare).tolist()
    ]
    footer = "Add images, or set allow_rare to keep all images of these classes in train."
    raise_problems("The dataset", problems, footer)


def _find_rare(counts: Any, needed: int) -> tuple[Any, Any]:
    """Return which groups may leave train, and which classes are too rare for `needed` splits.

    Groups with a rare class stay in train, which may make other classes rare, so this repeats until nothing changes.
    """
    holds = counts > 0
    rare = holds.sum(0) < needed
    while True:
        free = ~holds[:, rare].any(1)
        # Groups that stay are enough for train. The free groups must be enough for the other splits.
        stays = holds[~free].any(0)
        extended = rare | (holds[free].sum(0) < needed - stays)
        if (extended == rare).all():
            return free, rare
        rare = extended


def _choose(counts: Any, target: Any, *, needed: Any, reserve: Any) -> Any:
    """Choose the groups of one split greedily, minimizing the weighted squared error of the counts per class.

    First every needed class gets a group, starting with the class that has the fewest candidates. Then groups are
    added while this brings the number of images closer to the target.

    Args:
        counts: `[num_groups, num_classes]` of the candidate groups, in shuffled order.
        target: `[num_classes]` target numbers of images.
        needed: `[num_classes]` bool, classes that must be in the split.
        reserve: `[num_classes]` numbers of groups of each needed class that must remain for other splits.

    Returns:
        Chosen rows of `counts`.
    """
    # Groups with equal counts are interchangeable: 70,000 single images of 10 classes are 10 patterns.
    patterns, waiting = _count_patterns(counts)
    holds, sizes, weights = patterns > 0, patterns.sum(1), 1 / np.maximum(target, 1)
    chosen_counts = np.zeros(counts.shape[1], np.int64)
    taken: list[int] = []
    left = (counts > 0).sum(0)
    while True:
        may_go = (left - 1 >= reserve) | ~needed
        candidates = np.array([bool(queue) for queue in waiting]) & (may_go | ~holds).all(1)
        missing = np.flatnonzero(needed & (chosen_counts == 0))
        if len(missing):
            choices = [(holds[candidates, column].sum(), column) for column in missing]
            candidates &= holds[:, min(choices)[1]]
        else:
            gap = target.sum() - chosen_counts.sum()
            candidates &= np.abs(gap - sizes) < abs(gap)
        if not candidates.any():
            if len(missing):
                raise RequestError(
                    "The groups contain several classes each and cannot be divided so that every class is in every "
                    "split. Use another seed or other fractions, or set allow_rare."
                )
            return np.array(taken, np.int64)
        rows = np.flatnonzero(candidates)
        error = ((chosen_counts + patterns[rows] - target) ** 2 * weights).sum(1)
        best = int(rows[np.argmin(error)])
        taken.append(waiting[best].pop())
        chosen_counts, left = chosen_counts + patterns[best], left - holds[best]


def _count_patterns(counts: Any) -> tuple[Any, list[list[int]]]:
    """Return the distinct rows in order of first occurrence, and the row numbers of each in descending order."""
    rows_of: dict[tuple[int, ...], list[int]] = {}
    for row, numbers in enumerate(map(tuple, counts.tolist())):
        rows_of.setdefault(numbers, []).append(row)
    patterns = np.array(list(rows_of), np.int64).reshape(-1, counts.shape[1])
    return patterns, [rows[::-1] for rows in rows_of.values()]


SHOWN = 5


@suggest_arguments
def split(
    collection: Collection,
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    allow_rare: bool = False,
    duplicates: Duplicates = "auto",
) -> Collection:
    """Assign every labeled image to train, val or test.

    The split is stratified by class, and groups stay whole. The sizes of val and test match their fractions within one
    group, unless one group per class is already more. Given splits are kept, and a missing split is taken from train.
    Unlabeled images are dropped with a note.

    Args:
        collection: Images from a reader.
        val_fraction, test_fraction: Fractions of the labeled images, 0 to 1, or of the images in train if the data came
            with splits. 0 makes no such split.
        seed: Seed of the split.
        allow_rare: Whether all images of a class with too few groups go to train instead of raising an error.
        duplicates: What to do with files that have the same bytes. `auto` keeps them in one split, and rejects copies with
            different labels or given splits. `keep_together` accepts different labels. `refuse` rejects all copies,
            and `allow` accepts copies in any splits. Only files of equal size are read.

    Returns:
        The collection with the split of each record.

    Raises:
        Problems: An argument has a wrong type or is out of range, a class has too few groups, a given split divides a
            group, or copies are rejected.
        RequestError: There are no labeled images, or only one class.
    """
    check_arguments("The split", _Arguments, locals())
    _check_two_classes(collection)
    return _divided(
        join_copies(collection, duplicates),
        {"test": test_fraction, "val": val_fraction},
        seed=seed,
        allow_rare=allow_rare,
    )


class _Arguments(Split):
    seed: Seed
    duplicates: Duplicates


class _TargetArguments(_Arguments):
    labels: Literal["none", "few", "all"]
    groups_per_class: Annotated[int, Ge(1)]


def _check_two_classes(collection: Collection) -> None:
    labels = {record.label for record in collection.records} - {None}
    if len(labels) == 1:
        raise RequestError(f"All images have the class {labels.pop()!r}. At least two classes are needed.")


def _divided(
    collection: Collection, fractions: dict[str, float], *, seed: int, allow_rare: bool
) -> Collection:
    """Split the labeled images. `fractions` has the fraction of them for each split except train."""
    labeled = [record for record in collection.records if record.label is not None]
    if not labeled:
        message = "No image has a label, so the images cannot be split by class."
        raise RequestError("\n".join([message, *collection.notes]))
    problems = check_group_names(labeled, "groups", collection.identity)
    problems += check_class_names(collection.class_names, collection.identity)
    raise_problems("The dataset", problems, footer_of(problems), SHOWN)
    _check_whole_groups(labeled)
    given_splits = {record.split for record in labeled}
    if given_splits - {None} and None in given_splits:
        raise RequestError(
            "Some images have a given split and some do not. Specify a split for all images or for none."
        )
    fractions = {name: value for name, value in fractions.items() if value > 0 and name not in given_splits}
    free = collection.with_records(record for record in labeled if record.split in (None, "train"))
    chosen, rare = choose_groups(free, fractions, seed=seed, allow_rare=allow_rare)
    records = (
        record
        if record.split in ("val", "test")
        else replace(record, split=chosen.get(group_key(record), "train"))
        for record in labeled
    )
    left_out = len(collection.records) - len(labeled)
    notes = [f"Ignored {pluralize(left_out, 'unlabeled image')}."] if left_out else []
    notes += [f"Class {name!r} has too few groups to split. All its images are in train." for name in rare]
    return collection.with_records(records, *notes)


@suggest_arguments
def split_target(
    collection: Collection,
    *,
    labels: Literal["none", "few", "all"],
    groups_per_class: int = 4,
    val_fraction: float = 0.15,
    test_fraction: float = 0.3,
    seed: int,
    allow_rare: bool = False,
    duplicates: Duplicates = "auto",
) -> Collection:
    """Split the target domain into target_train, target_val, target_test and target_unlabelled.

    Records of target_unlabelled have no label, so that labels cannot leak into training. Unlabeled images join
    target_unlabelled, except those of groups in the validation or test split.

    Args:
        collection: Images of the target. They may be unlabeled if `labels` is `none`.
        labels: `all` splits the target like a source. `few` keeps the labels of `groups_per_class` groups per class
            in target_train, without target_val. `none` assigns all images outside the test split to
            target_unlabelled.
        groups_per_class: Number of labeled groups per class for `few`.
        val_fraction, test_fraction: As in `split`. The validation fraction is used for `all` only.
        seed, allow_rare, duplicates: As in `split`.

    Raises:
        Problems: An argument has a wrong type or is out of range, or copies are rejected.
        RequestError: There are no labels or too few groups, but labels are needed.
    """
    check_arguments("The split of the target", _TargetArguments, locals())
    if labels != "all":  # there is no target_val
        collection = collection.with_records(
            replace(record, split="train") if record.split == "val" else record
            for record in collection.records
        )
    collection = join_copies(collection, duplicates)
    unlabeled = [record for record in collection.records if record.label is None]
    if labels == "none" and len(unlabeled) == len(collection.records):
        return collection.with_records(map(_without_label, unlabeled))
    fractions = {"test": test_fraction, "val": val_fraction if labels == "all" else 0.0}
    if labels != "all":
        # Unlabeled images join below, so `split` must not report them as dropped.
        labeled = (record for record in collection.records if record.label is not None)
        collection = collection.with_records(labeled)
    if labels != "none":  # without labels for training, a single class is allowed
        _check_two_classes(collection)
    divided = _divided(collection, fractions, seed=seed, allow_rare=allow_rare)
    named = divided.with_records(
        replace(record, split=f"target_{record.split}") for record in divided.records
    )
    if labels == "all":
        return named
    if labels == "few":
        named = keep_few_labels(named, groups_per_class=groups_per_class, seed=seed, allow_rare=allow_rare)
    else:
        named = _keep_labels(named, set())
    return _join_unlabeled(named, unlabeled)


def keep_few_labels(
    collection: Collection, *, groups_per_class: int, seed: int, allow_rare: bool = False
) -> Collection:
    """Keep the labels of a few groups of target_train. The others move to target_unlabelled.

    The labeled groups for one number are a subset of those for every larger number.

    Args:
        collection: Images of the target with the split target_train.
        groups_per_class: Number of groups of each class whose labels are kept.
        seed: Seed of the choice.
        allow_rare: Whether a class may have fewer groups.

    Raises:
        Problems: A class has fewer groups in target_train.
    """
    pool = collection.with_records(record for record in collection.records if record.split == "target_train")
    keys, counts = shuffled_groups(pool, seed)
    holds = counts > 0
    problems = [
        Problem(f"class {name!r}", f"has {number} groups, but groups_per_class is {groups_per_class}")
        for name, number in zip(collection.class_names, holds.sum(0), strict=True)
        if number < groups_per_class and not allow_rare
    ]
    raise_problems("The training split of the target", problems)
    picked = np.zeros(len(keys), bool)
    # Add one group per class in each round, so that the groups for a number are a subset of those for a larger one.
    for number in range(1, min(groups_per_class, len(keys)) + 1):
        for column in np.argsort(holds.sum(0), kind="stable"):
            available = np.flatnonzero(holds[:, column] & ~picked)
            if (picked & holds[:, column]).sum() < number:
                picked[available[:1]] = True
    return _keep_labels(collection, set(itertools.compress(keys, picked)))


def _keep_labels(collection: Collection, kept: Set[str]) -> Collection:
    return collection.with_records(
        record if record.split != "target_train" or group_key(record) in kept else _without_label(record)
        for record in collection.records
    )


def _join_unlabeled(divided: Collection, unlabeled: Sequence[Record]) -> Collection:
    """Add unlabeled images to target_unlabelled, except those of groups in the validation or test split."""
    held_out = {
        group_key(record) for record in divided.records if record.split in ("target_val", "target_test")
    }
    joining = [record for record in unlabeled if group_key(record) not in held_out]
    records = (*divided.records, *map(_without_label, joining))
    left_out = len(unlabeled) - len(joining)
    if not left_out:
        return divided.with_records(records)
    note = (
        f"Ignored {pluralize(left_out, 'unlabeled image')} of the target, because other images of the same groups "
        "are in its validation or test split."
    )
    return divided.with_records(records, note)


def _without_label(record: Record) -> Record:
    return replace(record, label=None, split="target_unlabelled")


def _check_whole_groups(records: Sequence[Record]) -> None:
    splits_of: dict[str, set[str]] = defaultdict(set)
    for record in records:
        if record.group is not None and record.split is not None:
            splits_of[record.group].add(record.split)
    problems = [
        Problem(f"group {group!r}", "is in " + " and ".join(sorted(splits, key=SPLITS.index)))
        for group, splits in sorted(splits_of.items())
        if len(splits) > 1
    ]
    footer = "A group must be in one split only. Fix the given split or remove it."
    raise_problems("The given split", problems, footer, SHOWN)

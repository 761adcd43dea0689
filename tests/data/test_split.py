"""Properties of splits, on random and on constructed datasets."""

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerastl.data import Collection, Record, keep_few_labels, split, split_target
from kerastl.errors import Problems, RequestError


def collection_of(rows) -> Collection:
    """Return a collection from (label, group) pairs."""
    records = [
        Record(f"{number}.png", Path(f"/{number}.png"), label, None, group)
        for number, (label, group) in enumerate(rows)
    ]
    names = sorted({label for label, _ in rows if label is not None})
    return Collection(Path("/"), tuple(names), tuple(records))


@st.composite
def data_sets(draw) -> Collection:
    """Return two to four classes, each with 3 to 12 patients with 1 to 9 images."""
    rows = []
    for label in "abcd"[: draw(st.integers(2, 4))]:
        sizes = draw(st.lists(st.integers(1, 9), min_size=3, max_size=12))
        rows += [(label, f"{label}{number}") for number, size in enumerate(sizes) for _ in range(size)]
    return collection_of(rows)


fractions = st.sampled_from([0.05, 0.1, 0.15, 0.2, 0.3])


def sizes_of(collection: Collection) -> Counter:
    return Counter(record.split for record in collection.records)


@settings(max_examples=25, deadline=None)
@given(data_sets(), fractions, fractions, st.integers(0, 2**31 - 1))
def test_groups_stay_whole_in_splits_of_every_class_and_the_expected_size(data, val, test, seed):
    """The fractions are met within one group, or one group per class."""
    collection = split(data, val_fraction=val, test_fraction=test, seed=seed)
    splits_by_group = defaultdict(set)
    classes = defaultdict(set)
    for record in collection.records:
        splits_by_group[record.group].add(record.split)
        classes[record.split].add(record.label)
    assert all(len(splits) == 1 for splits in splits_by_group.values())
    assert set(classes) == {"train", "val", "test"}
    assert all(names == set(data.class_names) for names in classes.values())
    largest = max(Counter(record.group for record in data.records).values())
    for name, fraction in (("val", val), ("test", test)):
        expected = fraction * len(data.records)
        groups = {record.group for record in collection.records if record.split == name}
        gap = sizes_of(collection)[name] - expected
        assert abs(gap) <= largest or (gap > 0 and len(groups) <= len(data.class_names))


@settings(max_examples=10, deadline=None)
@given(data_sets(), st.integers(0, 2**31 - 1), st.randoms())
def test_split_does_not_depend_on_the_order_of_files(data, seed, random):
    shuffled = list(data.records)
    random.shuffle(shuffled)
    options = {"val_fraction": 0.15, "test_fraction": 0.15, "seed": seed}
    first = split(data, **options)
    second = split(replace(data, records=tuple(shuffled)), **options)
    assert {r.path: r.split for r in first.records} == {r.path: r.split for r in second.records}


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 12)), min_size=40, max_size=90),
    st.integers(0, 99),
)
def test_patients_with_images_of_both_classes_stay_whole(rows, seed):
    data = collection_of([(label, f"p{patient}") for label, patient in rows])
    try:
        collection = split(data, val_fraction=0.2, test_fraction=0.2, seed=seed)
    except RequestError:
        return
    splits_by_group = defaultdict(set)
    for record in collection.records:
        splits_by_group[record.group].add(record.split)
    assert all(len(splits) == 1 for splits in splits_by_group.values())


def test_single_images_meet_the_fractions_exactly_per_class():
    data = collection_of([(label, None) for label in "abc" for _ in range(100)])
    collection = split(data, val_fraction=0.15, test_fraction=0.2, seed=1)
    counts = Counter((record.split, record.label) for record in collection.records)
    assert all(counts["val", label] == 15 and counts["test", label] == 20 for label in "abc")


def test_another_seed_gives_another_split():
    data = collection_of([(label, None) for label in "ab" for _ in range(50)])
    ways = {
        tuple(r.split for r in split(data, val_fraction=0.2, test_fraction=0.2, seed=seed).records)
        for seed in range(5)
    }
    assert len(ways) == 5


def test_large_dataset_is_split():
    data = collection_of([(str(number % 10), None) for number in range(10_000)])
    collection = split(data, val_fraction=0.1, test_fraction=0.1, seed=0)
    assert sizes_of(collection) == {"train": 8_000, "val": 1_000, "test": 1_000}


def test_zero_fraction_makes_no_split():
    data = collection_of([(label, None) for label in "ab" for _ in range(10)])
    assert sizes_of(split(data, val_fraction=0.2, test_fraction=0, seed=0)) == {"train": 16, "val": 4}


def rare_data() -> Collection:
    return collection_of([("a", None)] * 20 + [("b", None)] * 20 + [("rare", "r1"), ("rare", "r2")])


def test_class_with_two_groups_is_rejected():
    with pytest.raises(Problems, match=r"class 'rare': has 2 groups.*at least 3.*\n.*allow_rare"):
        split(rare_data(), val_fraction=0.2, test_fraction=0.2, seed=0)


def test_rare_class_goes_to_train_with_allow_rare():
    collection = split(rare_data(), val_fraction=0.2, test_fraction=0.2, seed=0, allow_rare=True)
    assert {record.split for record in collection.records if record.label == "rare"} == {"train"}
    assert any("'rare'" in note for note in collection.notes)


def presplit(rows) -> Collection:
    """Return a collection from (label, group, split)."""
    data = collection_of([(label, group) for label, group, _ in rows])
    records = [replace(record, split=row[2]) for record, row in zip(data.records, rows, strict=True)]
    return replace(data, records=tuple(records))


def test_given_splits_are_kept_and_a_missing_one_is_taken_from_train():
    rows = [(label, None, name) for label in "ab" for name in ["train"] * 20 + ["test"] * 7]
    data = presplit(rows)
    collection = split(data, val_fraction=0.2, test_fraction=0.5, seed=3)
    before = {record.path for record in data.records if record.split == "test"}
    assert {record.path for record in collection.records if record.split == "test"} == before
    assert sizes_of(collection) == {"train": 32, "val": 8, "test": 14}


def test_complete_given_splits_do_not_depend_on_the_seed():
    rows = [(label, None, name) for label in "ab" for name in ("train", "val", "test")]
    data = presplit(rows)
    assert split(data, val_fraction=0.3, test_fraction=0.3, seed=9).records == data.records


def test_given_split_that_divides_a_patient_is_rejected():
    data = presplit([("a", "p7", "train"), ("b", "p7", "test"), ("a", "p1", "train"), ("b", "p2", "test")])
    with pytest.raises(Problems, match="group 'p7': is in train and test"):
        split(data, val_fraction=0.1, test_fraction=0.1, seed=0)


def test_incomplete_given_split_is_rejected():
    with pytest.raises(RequestError, match="for all images or for none"):
        split(
            presplit([("a", None, "train"), ("b", None, None)]), val_fraction=0.1, test_fraction=0.1, seed=0
        )


def test_unlabeled_images_are_dropped_with_a_note():
    data = collection_of([("a", None)] * 5 + [("b", None)] * 5 + [(None, None)] * 3)
    collection = split(data, val_fraction=0.2, test_fraction=0.2, seed=0)
    assert len(collection.records) == 10
    assert any("3 unlabeled images" in note for note in collection.notes)
    with pytest.raises(RequestError, match="No image has a label"):
        split(collection_of([(None, None)] * 4), val_fraction=0.2, test_fraction=0.2, seed=0)


def target_data() -> Collection:
    return collection_of([(label, f"{label}{number // 3}") for label in "ab" for number in range(60)])


def test_few_keeps_only_the_labels_of_a_few_groups():
    collection = split_target(target_data(), labels="few", groups_per_class=4, test_fraction=0.3, seed=5)
    assert set(sizes_of(collection)) == {"target_train", "target_test", "target_unlabelled"}
    few = [record for record in collection.records if record.split == "target_train"]
    assert Counter(label for label, _ in {(r.label, r.group) for r in few}) == {"a": 4, "b": 4}
    hidden = [record for record in collection.records if record.split == "target_unlabelled"]
    assert hidden
    assert all(record.label is None for record in hidden)
    assert not {r.group for r in few} & {r.group for r in hidden}


def test_target_test_split_is_the_same_for_few_and_no_labels():
    def tested(labels):
        collection = split_target(target_data(), labels=labels, test_fraction=0.3, seed=5)
        return {record.path for record in collection.records if record.split == "target_test"}

    assert tested("few") == tested("none")


def test_target_without_training_labels_has_a_labeled_test_split():
    collection = split_target(target_data(), labels="none", test_fraction=0.3, seed=5)
    assert set(sizes_of(collection)) == {"target_test", "target_unlabelled"}
    assert {r.label for r in collection.records if r.split == "target_test"} == {"a", "b"}


@pytest.mark.parametrize("labels", ["none", "few"])
def test_unlabeled_images_of_test_groups_are_not_trained_on(labels):
    """Every patient has labeled images and an unlabeled one; two more patients have no labels."""
    rows = [(label, f"{label}{number}") for label in "ab" for number in range(20) for _ in range(3)]
    rows += [(None, f"{label}{number}") for label in "ab" for number in range(20)]
    data = collection_of([*rows, (None, "c0"), (None, "c1"), (None, None)])
    collection = split_target(data, labels=labels, groups_per_class=4, test_fraction=0.3, seed=5)
    tested = {r.group for r in collection.records if r.split == "target_test"}
    trained = {r.group for r in collection.records if r.split != "target_test"}
    assert len(tested) == 12
    assert not tested & trained
    assert len(collection.records) == len(data.records) - 12
    notes = [note for note in collection.notes if "unlabeled" in note]
    assert len(notes) == 1
    assert "12 unlabeled images" in notes[0]


def test_unlabeled_images_of_other_groups_join_the_target_without_a_note():
    rows = [(label, None) for label in "ab" for _ in range(20)] + [(None, None)] * 7
    collection = split_target(collection_of(rows), labels="none", test_fraction=0.3, seed=5)
    assert sizes_of(collection) == {"target_test": 12, "target_unlabelled": 35}
    assert collection.notes == ()


def test_unlabeled_target_has_no_test_split():
    collection = split_target(collection_of([(None, None)] * 9), labels="none", seed=0)
    assert sizes_of(collection) == {"target_unlabelled": 9}
    with pytest.raises(RequestError, match="No image has a label"):
        split_target(collection_of([(None, None)] * 9), labels="few", seed=0)


def test_all_labels_split_the_target_like_a_source():
    collection = split_target(target_data(), labels="all", val_fraction=0.2, test_fraction=0.3, seed=5)
    assert set(sizes_of(collection)) == {"target_train", "target_val", "target_test"}


def test_too_few_groups_for_few_labels_are_rejected():
    data = collection_of([(label, f"{label}{number}") for label in "ab" for number in range(5)])
    with pytest.raises(Problems, match="groups_per_class"):
        split_target(data, labels="few", groups_per_class=5, test_fraction=0.2, seed=0)


def test_a_group_of_both_classes_counts_for_both():
    data = collection_of([(label, f"p{number}") for number in range(10) for label in "ab"])
    data = replace(data, records=tuple(replace(r, split="target_train") for r in data.records))
    collection = keep_few_labels(data, groups_per_class=3, seed=1)
    assert len({r.group for r in collection.records if r.split == "target_train"}) == 3


def test_group_and_path_with_the_same_name_are_different_groups():
    """A patient ID may equal the path of an image."""
    rows = [("a", "0.png"), *[("a", None)] * 10, *[("b", None)] * 10]
    collection = split(collection_of(rows), val_fraction=0.2, test_fraction=0.2, seed=0)
    assert np.isin(["train", "val", "test"], [record.split for record in collection.records]).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**16), st.integers(0, 2**16))
def test_labeled_groups_are_nested_in_the_number_of_groups(drawn, seed):
    """This holds even if patients have images of several classes and count for each."""
    generator = np.random.default_rng(drawn)
    holds = generator.random((14, 3)) < 0.5
    rows = [("abc"[column], f"g{group}") for group, column in np.argwhere(holds).tolist()]
    collection = collection_of(rows)
    pool = replace(collection, records=tuple(replace(r, split="target_train") for r in collection.records))
    fewest = int(holds.sum(0).min())
    before: set[str | None] = set()
    for number in range(1, fewest + 1):
        picked = keep_few_labels(pool, groups_per_class=number, seed=seed)
        groups = {r.group for r in picked.records if r.split == "target_train"}
        labeled = Counter(
            label for label, _ in {(r.label, r.group) for r in picked.records if r.group in groups}
        )
        assert min(labeled.values()) >= number
        assert before <= groups
        before = groups


@pytest.mark.parametrize(
    "argument", [{"labels": "some"}, {"groups_per_class": 0}, {"test_fraction": 1.5}, {"duplicates": "keep"}]
)
def test_arguments_of_a_target_split_are_checked(argument):
    with pytest.raises(Problems, match=next(iter(argument))):
        split_target(target_data(), **{"labels": "few", "seed": 0} | argument)


def test_an_unknown_treatment_of_duplicates_is_rejected():
    with pytest.raises(Problems, match="duplicates"):
        split(target_data(), val_fraction=0.2, test_fraction=0.2, seed=0, duplicates="keep")

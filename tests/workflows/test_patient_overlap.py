"""No patient is in both the training set of one domain and the test set of the other; unknown labels are reported with their place."""

from pathlib import Path

import pytest

from kerastl.data import Collection, Record
from kerastl.errors import Problems, RequestError
from kerastl.workflows.domains import (
    check_class_names,
    check_distinct_images,
    drop_unknown_labels,
    remove_patient_overlap,
)


def collection(*rows, root="b"):
    """Return records of rows (group, split) or (group, split, label)."""
    records = []
    for number, (group, split, *label) in enumerate(rows):
        path = f"{root}{number}.png"
        records.append(Record(path, Path("/data") / path, (label or ["ill"])[0], split, group, root))
    names = tuple(sorted({record.label for record in records if record.label}))
    return Collection(None, names, tuple(records))


SOURCE = collection(("p1", "train"), ("p2", "val"), ("p3", "test"), (None, "train"), root="a")


def splits(images):
    return [(record.group, record.split, record.label) for record in images.records]


def test_a_patient_of_one_table_is_never_trained_on_and_tested():
    target = collection(
        ("p1", "target_test"), ("p2", "target_test"), ("p3", "target_test"), ("p4", "target_test"),
        ("p3", "target_unlabelled"), ("p1", "target_unlabelled"), (None, "target_test"),
    )  # fmt: skip
    changed = remove_patient_overlap(SOURCE, target, same_table=True)
    assert splits(changed) == [
        ("p1", "target_unlabelled", None),
        ("p2", "target_unlabelled", None),
        ("p3", "target_test", "ill"),
        ("p4", "target_test", "ill"),
        ("p1", "target_unlabelled", "ill"),
        (None, "target_test", "ill"),
    ]
    (note,) = changed.notes
    assert "3" in note, "groups"


def test_a_validation_patient_joins_training_where_labels_are_used():
    target = collection(("p1", "target_val"), ("p9", "target_train"), ("p3", "target_train"))
    changed = remove_patient_overlap(SOURCE, target, same_table=True)
    assert splits(changed) == [("p1", "target_train", "ill"), ("p9", "target_train", "ill")]


def test_equal_patient_names_of_two_tables_give_a_note_only():
    target = collection(("p1", "target_test"), ("p7", "target_test"))
    changed = remove_patient_overlap(SOURCE, target, same_table=False)
    assert changed.records == target.records
    assert "'p1'" in changed.notes[0]
    assert remove_patient_overlap(SOURCE, collection(("p7", "target_test")), same_table=False).notes == ()


@pytest.mark.parametrize("name", ["P1", "p01", "p1\u200b", "\uff301"])
def test_patients_of_two_tables_are_compared_by_value(name):
    target = collection((name, "target_test"), ("p9", "target_test"))
    (note,) = remove_patient_overlap(SOURCE, target, same_table=False).notes
    assert f"{name!r} (in the source, 'p1')" in note
    assert remove_patient_overlap(SOURCE, target, same_table=False, identity="exact").notes == ()


@pytest.mark.parametrize("label", ["ILL", "ill\u200b", "Ill"])
def test_another_spelling_of_a_source_class_is_rejected_where_labels_are_not_used(label):
    target = collection(("p1", None, label), ("p2", None, "well"))
    with pytest.raises(Problems, match=r"'ill' \(source\) and .* \(target\) are spellings of the same value"):
        drop_unknown_labels(target, ("ill", "well"))
    exact = drop_unknown_labels(target, ("ill", "well"), identity="exact")
    assert [record.label for record in exact.records] == [None, "well"]


def test_the_same_image_in_both_domains_is_refused():
    with pytest.raises(RequestError, match=r"4 .*a0\.png"):
        check_distinct_images(SOURCE, SOURCE)


def test_all_unknown_classes_are_reported_with_the_nearest_name_and_an_image():
    target = collection(("p1", None, "ILL"), ("p2", None, "weird"), ("p3", None, "well"))
    with pytest.raises(Problems) as refused:
        check_class_names(target, ("ill", "well"))
    first, second = map(str, refused.value.problems)
    assert "'ILL'" in first
    assert "'ill'?" in first
    assert "'weird'" in second
    assert "b1.png" in second
    assert "target.labels=none" in str(refused.value)


def test_unknown_labels_count_as_none_where_labels_are_not_used():
    target = collection(("p1", None, "weird"), ("p2", None, "ill"))
    changed = drop_unknown_labels(target, ("ill", "well"))
    assert [record.label for record in changed.records] == [None, "ill"]
    assert changed.class_names == ("ill",)
    assert "'weird'" in changed.notes[0]
    known = collection(("p2", None, "ill"))
    assert drop_unknown_labels(known, ("ill", "well")) is known

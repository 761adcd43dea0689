"""Nobody is learnt from in one domain and tested in the other, and labels that cannot be learnt from are told with their place."""

from pathlib import Path

import pytest

from kerastl.data import Collection, Record
from kerastl.errors import Problems, RequestError
from kerastl.workflows.datasets import check_class_names, remove_patient_overlap, drop_unknown_labels


def collection(*rows, root="b"):
    """Of (group, split) or (group, split, label)."""
    records = []
    for number, (group, split, *label) in enumerate(rows):
        path = f"{root}{number}.png"
        records.append(Record(path, Path("/data") / path, (label or ["ill"])[0], split, group, root))
    names = tuple(sorted({one.label for one in records if one.label}))
    return Collection(None, names, tuple(records))


SOURCE = collection(("p1", "train"), ("p2", "val"), ("p3", "test"), (None, "train"), root="a")


def splits(found):
    return [(one.group, one.split, one.label) for one in found.records]


def test_of_one_table_nobody_is_learnt_from_and_tested():
    target = collection(
        ("p1", "target_test"), ("p2", "target_test"), ("p3", "target_test"), ("p4", "target_test"),
        ("p3", "target_unlabelled"), ("p1", "target_unlabelled"), (None, "target_test"),
    )  # fmt: skip
    found = remove_patient_overlap(SOURCE, target, same_table=True)
    assert splits(found) == [
        ("p1", "target_unlabelled", None),
        ("p2", "target_unlabelled", None),
        ("p3", "target_test", "ill"),
        ("p4", "target_test", "ill"),
        ("p1", "target_unlabelled", "ill"),
        (None, "target_test", "ill"),
    ]
    (note,) = found.notes
    assert note.startswith("3 groups")
    assert "1 images of the target are left out" in note


def test_where_labels_are_learnt_from_who_validates_joins_training():
    target = collection(("p1", "target_val"), ("p9", "target_train"), ("p3", "target_train"))
    found = remove_patient_overlap(SOURCE, target, same_table=True)
    assert splits(found) == [("p1", "target_train", "ill"), ("p9", "target_train", "ill")]


def test_equal_names_of_two_tables_are_noted_and_nothing_is_moved():
    target = collection(("p1", "target_test"), ("p7", "target_test"))
    found = remove_patient_overlap(SOURCE, target, same_table=False)
    assert found.records == target.records
    assert "'p1'" in found.notes[0]
    assert "same people" in found.notes[0]
    assert remove_patient_overlap(SOURCE, collection(("p7", "target_test")), same_table=False).notes == ()


def test_the_same_image_in_both_domains_is_refused():
    with pytest.raises(RequestError, match=r"4 images of the target are images of the source.*a0\.png"):  # fmt: skip
        remove_patient_overlap(SOURCE, SOURCE, same_table=False)


def test_all_strange_classes_are_told_with_the_nearest_name_and_a_image():
    target = collection(("p1", None, "ILL"), ("p2", None, "weird"), ("p3", None, "well"))
    with pytest.raises(Problems) as told:
        check_class_names(target, ("ill", "well"))
    text = str(told.value)
    assert "2 problems" in text
    assert "'ILL': is not among the source's: ill, well. Did you mean 'ill'?" in text
    assert "b1.png" in text
    assert "target.labels=none" in text


def test_strange_labels_that_are_not_learnt_from_are_taken_as_none():
    target = collection(("p1", None, "weird"), ("p2", None, "ill"))
    found = drop_unknown_labels(target, ("ill", "well"))
    assert [one.label for one in found.records] == [None, "ill"]
    assert found.class_names == ("ill",)
    assert "'weird'" in found.notes[0]
    known = collection(("p2", None, "ill"))
    assert drop_unknown_labels(known, ("ill", "well")) is known

"""Which score a curve tells, by what is known of B's test images."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from kerastl.data import Record
from kerastl.workflows.label_budget import metric_of


def seen(rows, class_names=("a", "b")):
    """Images of which only the test matters, from (label, group)."""
    test = [
        Record(f"{row}.png", Path("/x"), label, "target_test", group, "site")
        for row, (label, group) in enumerate(rows)
    ]
    return SimpleNamespace(class_names=class_names, in_split=lambda split: test)


PATIENTS = [("a", "p1"), ("a", "p1"), ("b", "p2")]


@pytest.mark.parametrize(
    ("every", "metric", "unit"),
    [
        ([seen(PATIENTS)], "group_auc", "patient"),
        ([seen([("a", None), ("b", None)])], "balanced_accuracy", "image"),
        ([seen([*PATIENTS, ("c", "p3")], ("a", "b", "c"))], "balanced_accuracy", "patient"),
        ([seen(PATIENTS), seen([("a", "p1"), ("b", "p1")])], "balanced_accuracy", "patient"),
    ],
)
def test_the_metric_is_group_auc_if_all_seeds_have_patients_of_two_classes(every, metric, unit):
    assert metric_of(every) == (metric, unit)

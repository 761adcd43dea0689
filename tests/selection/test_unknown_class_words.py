"""Why a part of the target that lies far from every class is no unknown class: each reason is told, and no other."""

import pytest

from kerastl.selection.open_set import explain_no_unknown_class

CLASS = {
    "distance": 6.0, "share": 0.3, "patients": 8, "spread": 0.1,
    "gain": {"value": 0.5, "low": 0.2, "high": 0.9}, "farthest_at_source": 0.0,
}  # fmt: skip
REASONS = {
    "may be chance": {"gain": {"value": 0.1, "low": -0.1, "high": 0.4}},
    "odd corner": {"share": 0.04},
    "the target itself, moved": {"share": 0.66},
    "they are of 1 patient, 3 are wanted": {"patients": 1},
    "several classes": {"spread": 0.91},
    "as far from its classes (7.0)": {"farthest_at_source": 7.0},
}


@pytest.mark.parametrize("said", REASONS)
def test_each_reason_is_told_alone(said):
    told = explain_no_unknown_class(CLASS | REASONS[said])
    assert "6.0 times the spread of a class away" in told
    assert [one for one in REASONS if one in told] == [said]


def test_all_reasons_are_told_together():
    told = explain_no_unknown_class(CLASS | {"share": 0.66, "spread": 0.91, "patients": 2})
    assert told.startswith("part of the target (66% of its images) is 6.0 times")
    for said in ("the target itself, moved", "several classes", "of 2 patients, 3 are wanted"):
        assert said in told


def test_what_is_near_is_said_to_be_near():
    assert explain_no_unknown_class(CLASS | {"distance": 3.9, "share": 0.66, "spread": 0.9}) == (
        "no part of the target is far from every class of the source"
    )

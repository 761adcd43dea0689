"""The explanation why a distant part of the target is not an unknown class states exactly the reasons that apply."""

import pytest

from kerastl.selection.open_set import explain_unknown_class

CLASS = {
    "distance": 6.0, "share": 0.3, "patients": 8, "spread": 0.1,
    "gain": {"value": 0.5, "low": 0.2, "high": 0.9}, "source_distance": 0.0, "detected": False,
}  # fmt: skip
REASONS = {
    "may be due to chance": {"gain": {"value": 0.1, "low": -0.1, "high": 0.4}},
    "fewer than 10%": {"share": 0.04},
    "more than 50%": {"share": 0.66},
    "it holds 1 patient (at least 3 are needed)": {"patients": 1},
    "several classes": {"spread": 0.91},
    "as far from its own classes (7.0": {"source_distance": 7.0},
}


@pytest.mark.parametrize("reason", REASONS)
def test_single_reason_is_stated(reason):
    text = explain_unknown_class(CLASS | REASONS[reason])
    assert "6.0 within-class standard deviations" in text
    assert [name for name in REASONS if name in text] == [reason]


def test_all_reasons_are_stated():
    text = explain_unknown_class(CLASS | {"share": 0.66, "spread": 0.91, "patients": 2})
    assert text.startswith("66% of the target images")
    for reason in ("more than 50%", "several classes", "it holds 2 patients (at least 3 are needed)"):
        assert reason in text


def test_near_component_needs_no_further_reason():
    assert explain_unknown_class(CLASS | {"distance": 3.9, "share": 0.66, "spread": 0.9}) == (
        "no part of the target is far from every source class"
    )

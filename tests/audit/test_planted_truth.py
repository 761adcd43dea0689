"""Class B is the change of class A's own kind of image, of other individuals: then the change swaps labels."""

import numpy as np
import pytest
from digits_drawn import audited, digits, states

from kerastl.audit import format_lines

pytestmark = pytest.mark.slow


def _halves(label):
    images = digits(label)
    return images[::2], images[1::2]


def test_six_and_nine_swap_when_turned_and_not_when_shifted():
    found = audited(digits(6, None), digits(9, None), ["turn", "shift", "faint"], names=("6", "9"))
    assert states(found) == {"turn": "harmful", "shift": "safe", "faint": "safe"}
    assert {one.kind for one in found.findings} == {"moves"}
    assert any("harmful for 6 and 9 (at 1)" in line for line in format_lines(found))


@pytest.mark.parametrize("label", [4, 7])
def test_a_class_that_is_the_mirror_of_another(label):
    one, other = _halves(label)
    found = audited(one, other[:, :, ::-1], ["mirror", "faint", "shift"])
    assert states(found) == {"mirror": "harmful", "faint": "safe", "shift": "safe"}


def test_a_class_that_is_brighter():
    one, other = _halves(3)
    found = audited(one * 0.5 + 20, other * 0.5 + 80, ["brightness", "shift"])
    assert states(found) == {"brightness": "harmful", "shift": "safe"}


def test_a_class_that_has_another_hue():
    red, green = np.array([1.0, 0.3, 0.3]), np.array([0.3, 1.0, 0.3])
    one, other = _halves(5)
    found = audited(one * red, other * green, ["colours", "grey", "shift"])
    assert states(found) == {"colours": "harmful", "grey": "harmful", "shift": "safe"}


def test_what_leaves_nothing_to_tell_classes_apart_by_erases():
    found = audited(digits(0), digits(1), ["blank"])
    assert states(found) == {"blank": "harmful"}
    assert {one.kind for one in found.findings} == {"erases"}
    assert any("what tells the two apart is gone" in line for line in format_lines(found))


@pytest.mark.parametrize("pair", [(0, 1), (3, 7)])
def test_changes_that_have_nothing_to_do_with_the_class(pair):
    one, other = (digits(label) for label in pair)
    found = audited(one, other, ["turn", "brightness", "shift", "nothing"])
    assert "harmful" not in states(found).values()
    verdicts = {verdict.name: verdict for verdict in found.verdicts}
    assert verdicts["nothing"].unchanged


def test_an_invariance_that_is_not_learnt_yet_is_told_from_a_label_that_moves():
    found = audited(digits(0), digits(1), ["invert"])
    (verdict,) = found.verdicts
    (measured,) = found.measured.values()
    changed, trained = (
        np.mean([one[name][0] for one in measured.classes])
        for name in ("accuracy_augmented", "accuracy_after_training")
    )
    assert changed < 0.9 < trained
    assert verdict.needs_training
    assert verdict.state != "harmful"

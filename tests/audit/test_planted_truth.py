"""Class B consists of augmented images of class A: the augmentation then changes the label."""

import numpy as np
import pytest
from make_digits import audited, digits, kinds, states

from kerastl.audit import format_lines

pytestmark = pytest.mark.slow


def _halves(label):
    images = digits(label)
    return images[::2], images[1::2]


def test_rotation_by_180_degrees_is_harmful_for_six_and_nine():
    result = audited(digits(6, None), digits(9, None), ["turn", "shift", "faint"], names=("6", "9"))
    assert states(result) == {"turn": "harmful", "shift": "safe", "faint": "safe"}
    assert kinds(result) == {"label_change"}
    assert any("harmful for 6 and 9 (at 1)" in line for line in format_lines(result))


@pytest.mark.parametrize("label", [4, 7])
def test_a_class_that_is_the_mirror_of_another(label):
    first, second = _halves(label)
    result = audited(first, second[:, :, ::-1], ["mirror", "faint", "shift"])
    assert states(result) == {"mirror": "harmful", "faint": "safe", "shift": "safe"}


def test_a_class_that_is_brighter():
    first, second = _halves(3)
    result = audited(first * 0.5 + 20, second * 0.5 + 80, ["brightness", "shift"])
    assert states(result) == {"brightness": "harmful", "shift": "safe"}


def test_a_class_that_has_another_hue():
    red, green = np.array([1.0, 0.3, 0.3]), np.array([0.3, 1.0, 0.3])
    first, second = _halves(5)
    result = audited(first * red, second * green, ["colours", "grey", "shift"])
    assert states(result) == {"colours": "harmful", "grey": "harmful", "shift": "safe"}


def test_an_operation_that_removes_all_content_is_an_information_loss():
    result = audited(digits(0), digits(1), ["blank"])
    assert states(result) == {"blank": "harmful"}
    assert kinds(result) == {"information_loss"}
    assert any("which no longer separate the two classes" in line for line in format_lines(result))


@pytest.mark.parametrize("pair", [(0, 1), (3, 7)])
def test_operations_unrelated_to_the_class_are_not_harmful(pair):
    first, second = (digits(label) for label in pair)
    result = audited(first, second, ["turn", "brightness", "shift", "nothing"])
    assert "harmful" not in states(result).values()
    verdicts = {verdict.name: verdict for verdict in result.verdicts}
    assert verdicts["nothing"].unchanged


def test_an_operation_that_needs_training_is_not_harmful():
    result = audited(digits(0), digits(1), ["invert"])
    (verdict,) = result.verdicts
    (measured,) = result.measured.values()
    changed, trained = (
        np.mean([class_results[name]["value"] for class_results in measured.classes])
        for name in ("accuracy_augmented", "accuracy_after_training")
    )
    assert changed < 0.9 < trained
    assert verdict.needs_training
    assert verdict.state != "harmful"

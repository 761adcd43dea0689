import json

import numpy as np
import pytest
from digits_drawn import audited, digits, states

from kerastl.audit import as_plain, format_lines, policy_yaml

pytestmark = pytest.mark.slow


def test_one_group_a_class_is_undecided_in_clear_words():
    one, other = digits(6, 20), digits(9, 20)
    found = audited(one, other, ["turn"], groups=["a"] * 20 + ["b"] * 20)
    assert states(found) == {"turn": "undecided"}
    told = "\n".join(format_lines(found))
    assert "A: 1 group, at least 3 are needed" in told
    assert "fewer than two classes" in told


def test_few_groups_are_undecided():
    one, other = digits(0, 30), digits(1, 30)
    groups = [f"{row % 6}" for row in range(30)] + [f"{6 + row % 6}" for row in range(30)]
    found = audited(one, other, ["faint"], groups=groups)
    assert states(found) == {"faint": "undecided"}
    assert "fewer than 10 groups of A, B" in found.verdicts[0].reasons
    (measured,) = found.measured.values()
    assert measured.classes[0]["accuracy"][1:] == (None, None)


def test_few_images_are_never_called_safe_where_they_are_taken_for_others():
    found = audited(digits(6, 14), digits(9, 14), ["turn"])
    assert states(found)["turn"] != "safe"


def test_classes_that_cannot_be_told_apart_are_undecided():
    images = digits(2)
    found = audited(images[::2], images[1::2], ["shift"])
    assert states(found) == {"shift": "undecided"}
    assert "judges cannot tell A and B apart untouched" in found.verdicts[0].reasons


def test_everything_can_be_written_as_json_and_the_same_seed_gives_the_same():
    once, again = (
        json.dumps(as_plain(audited(digits(6, 40), digits(9, 40), ["turn", "shift"])), allow_nan=False)
        for _ in range(2)
    )
    assert once == again
    plain = json.loads(once)
    assert [one["name"] for one in plain["operations"]] == ["turn", "shift"]
    figures = plain["operations"][0]["strengths"][0]["classes"]["A"]["accuracy"]
    assert figures["low"] <= figures["value"] <= figures["high"]


def test_harmful_operations_are_left_out_of_the_policy_with_the_reason():
    images = digits(7)
    found = audited(images[::2], images[1::2, :, ::-1], ["mirror", "shift", "nothing"])
    text = policy_yaml(found.verdicts, found.class_names)
    assert "- {name: shift, what: shift}" in text
    assert "# mirror left out, harmful for A and B (at 1)" in text
    assert "# nothing: changes nothing on these images" in text
    assert not np.any(["name: mirror" in line for line in text.splitlines()])

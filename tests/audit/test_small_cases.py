import json

import numpy as np
import pytest
from make_digits import audited, digits, states

from kerastl.audit import as_plain, format_lines, policy_yaml

pytestmark = pytest.mark.slow


def test_one_group_per_class_is_undecided():
    sixes, nines = digits(6, 20), digits(9, 20)
    result = audited(sixes, nines, ["turn"], groups=["a"] * 20 + ["b"] * 20)
    assert states(result) == {"turn": "undecided"}
    text = "\n".join(format_lines(result))
    assert "A has 1 group (at least 3 are needed" in text
    assert "fewer than two classes" in text


def test_few_groups_are_undecided():
    zeros, ones = digits(0, 30), digits(1, 30)
    groups = [f"{row % 6}" for row in range(30)] + [f"{6 + row % 6}" for row in range(30)]
    result = audited(zeros, ones, ["faint"], groups=groups)
    assert states(result) == {"faint": "undecided"}
    assert "fewer than 10 groups of A, B" in result.verdicts[0].reasons
    (measured,) = result.measured.values()
    accuracy = measured.classes[0]["accuracy"]
    assert accuracy["low"] is None
    assert accuracy["high"] is None


def test_confused_classes_with_few_images_are_not_safe():
    result = audited(digits(6, 14), digits(9, 14), ["turn"])
    assert states(result)["turn"] != "safe"


def test_inseparable_classes_are_undecided():
    images = digits(2)
    result = audited(images[::2], images[1::2], ["shift"])
    assert states(result) == {"shift": "undecided"}
    assert "the classifiers do not separate the original images of A and B" in result.verdicts[0].reasons


def test_everything_can_be_written_as_json_and_the_same_seed_gives_the_same():
    once, again = (
        json.dumps(as_plain(audited(digits(6, 40), digits(9, 40), ["turn", "shift"])), allow_nan=False)
        for _ in range(2)
    )
    assert once == again
    plain = json.loads(once)
    assert [operation["name"] for operation in plain["operations"]] == ["turn", "shift"]
    metric = plain["operations"][0]["strengths"][0]["classes"]["A"]["accuracy"]
    assert metric["low"] <= metric["value"] <= metric["high"]


def test_the_policy_omits_harmful_operations_and_gives_the_reason():
    images = digits(7)
    result = audited(images[::2], images[1::2, :, ::-1], ["mirror", "shift", "nothing"])
    text = policy_yaml(result.verdicts, result.class_names)
    assert "- {name: shift, what: shift}" in text
    assert "# mirror is omitted: harmful for A and B (at 1)" in text
    assert "# nothing is omitted: it leaves these images unchanged" in text
    assert not np.any(["name: mirror" in line for line in text.splitlines()])

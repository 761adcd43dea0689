import math

import pytest
from example_plug_ins import GOOD, checked
from hypothesis import given, settings
from hypothesis import strategies as st

from kerastl.errors import Problems
from kerastl.options import Scalar
from kerastl.recipe.loader import read

pytestmark = pytest.mark.usefixtures("made_up_plug_ins")


def value_of(text: str) -> object:
    scalar = read(f"key: {text}", subject="x.yaml").data["key"]
    assert isinstance(scalar, Scalar)
    return scalar.value


def refusal(text: str) -> str:
    with pytest.raises(Problems) as caught:
        checked(text)
    return str(caught.value)


@pytest.mark.parametrize("word", ["no", "yes", "on", "off", "1:30", "2024-01-01", "1_000", "y", "="])
def test_yaml_1_1_booleans_and_numbers_stay_text(word):
    assert value_of(word) == word


# The core schema's own examples: YAML 1.2.2, section 10.3.2.
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3), ("0o17", 15), ("017", 17), ("0x3A", 58), ("-19", -19), ("0.", 0.0),
        ("-0.0", -0.0), (".5", 0.5), ("+12e03", 12000.0), ("-2E+05", -2e5), (".inf", math.inf),
        ("-.Inf", -math.inf), ("+.INF", math.inf), ("true", True), ("FALSE", False),
        ("null", None), ("~", None), ("", None), ('"1"', "1"), ("'no'", "no"),
    ],
)  # fmt: skip
def test_scalars_follow_yaml_1_2(text, value):
    assert value_of(text) == value
    assert type(value_of(text)) is type(value)


def test_duplicate_keys_are_refused_with_both_lines():
    assert "line 3, seed: duplicate key (first in line 2). Keep one." in refusal(
        GOOD.replace("seed: 7\n", "seed: 7\nseed: 8\n")
    )


HOSTILE = {
    "tag": (GOOD + "head: !!python/object/apply:os.system [id]\n", "line 8: tags are not allowed"),
    "local tag": (GOOD + "head: !x {}\n", "line 8: tags are not allowed"),
    "laughs": (
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(
            f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)
        ),
        "has more than 10000 values",
    ),
    "endless alias": ("a: &a [*a]\n", "is nested deeper than 20 levels"),
    "deep": ("[" * 5000, "is nested deeper than 20 levels"),
    "deep mapping": ("? " * 5000, "is nested deeper than 20 levels"),
    "large": ("a" * 300_000, "has 300000 characters"),
    "two documents": (GOOD + "---\na: 1\n", "a recipe is one document"),
    "empty": ("# nothing\n", "is empty"),
    "tab": ("data:\n\treader: x\n", "line 2: tabs are not allowed for indentation"),
    "control": ("a: \x07\n", "line 1: has a character that YAML does not allow (U+0007)"),
    "half a character": ('a: "\\ud800"\n', "lone surrogate"),
    "no such character": ('a: "\\UFFFFFFFF"\n', "invalid YAML"),
    "long number": (f"format: {'9' * 6000}\n", "format: must be 1, got '9999"),
    "open quote": ("a: 'b\n", "invalid YAML"),
    "no mapping": ("- a\n", "must be a mapping"),
    "list as key": ("[a, b]: c\n", "a key must be a word"),
    "undefined alias": ("a: *b\n", "invalid YAML"),
    "merge key": ("a: &a {seed: 1}\n<<: *a\n", "line 2, <<: unknown key"),
}


@pytest.mark.parametrize(("text", "message"), HOSTILE.values(), ids=list(HOSTILE))
def test_a_malicious_file_is_refused_with_its_name(text, message):
    assert message in refusal(text)


WORDS = st.sampled_from([
    *["format", "data", "reader", "name", "folder", "path", "phases", "trainable", "none", "1", "1e-3"],
    *[":", ": ", "\n", "\n  ", "- ", "{", "}", "[", "]", ",", "&a ", "*a", "!", "'", '"', "|", ">", "#", "%"],
    *["0x", "0o9", ".inf", "~", "---", "...", "?", "\t", "é", "\ud800", "\x85", "\u2028", "\ufeff", "<<"],
])  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.one_of(st.text(max_size=200), st.lists(WORDS, max_size=40).map("".join)))
def test_no_text_raises_anything_but_problems(text):
    with pytest.raises(Problems):
        checked(text)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["data.batch_size", "phases[0]", "phases[0].trainable", "augment", "x", ""]),
    st.one_of(st.text(max_size=30), st.lists(WORDS, max_size=10).map("".join)),
)
def test_no_set_raises_anything_but_problems(path, value):
    try:
        checked(GOOD, f"{path}={value}")
        checked(GOOD, value)
    except Problems as error:
        str(error).encode()  # or no terminal could print it

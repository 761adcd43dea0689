"""The key `adaptation`: candidates, validators, and the phases that train the candidates."""

import pytest
from example_plug_ins import GOOD, Alpha, checked

from kerastl.errors import Problems
from kerastl.recipe import Method, Validator, check, summary, write

PHASES = (
    "phases=[{name: a, epochs: 1, learning_rate: 1e-3, trainable: none},"
    "{name: b, domain: target, epochs: 2, learning_rate: 1e-3, trainable: none, keep: last}]"
)

pytestmark = pytest.mark.usefixtures("made_up_plug_ins")
TARGET = "target={reader: {name: phantom}, labels: none}"
METHODS = "adaptation={methods: [adabn, {name: coral, alpha: 0.5}]}"


def problems(*sets):
    with pytest.raises(Problems) as caught:
        checked(GOOD, *sets)
    return [str(problem) for problem in caught.value.problems]


def test_methods_have_options_and_the_default_validators_are_written_out():
    recipe = checked(GOOD, PHASES, TARGET, METHODS)
    assert recipe.adaptation.methods == (Method("adabn"), Method("coral", Alpha(0.5)))
    validators = (Validator("class_ami", Alpha()), Validator("bounded_information"))
    assert recipe.adaptation.select_by == validators
    again = check(write(recipe), name="again.yaml")
    assert again == recipe
    sentence = "adapts by adabn and coral, selected by class_ami and bounded_information"
    assert sentence in summary(recipe)


@pytest.mark.parametrize(
    ("change", "expected_text"),
    [
        ("adaptation.methods=[corla]", "unknown adaptation method 'corla'. Did you mean 'coral'?"),
        ("adaptation.methods=[]", "must contain at least 1 item."),
        ("adaptation.methods=[coral, coral]", "adaptation.methods[1]: 'coral' is already in the list."),
        ("adaptation.select_by=[snd, snd]", "adaptation.select_by[1]: 'snd' is already in the list."),
        ("adaptation.select_by=[coral]", "unknown validator 'coral'"),
        ("adaptation.methods=[{name: coral, alpha: 3}]", "must be a number from 0.1 to 2, got 3."),
    ],
)  # fmt: skip
def test_an_invalid_list_is_one_problem_that_states_what_is_allowed(change, expected_text):
    (problem,) = problems(PHASES, TARGET, METHODS, change)
    assert expected_text in problem


def test_methods_need_a_target_and_target_phases_after_the_source_phases():
    (problem,) = problems(METHODS)
    assert "requires a target, but the recipe has none" in problem
    (problem,) = problems(TARGET, METHODS)
    assert "Add a phase with domain: target after the source phases" in problem
    mixed = PHASES.replace("name: a, epochs", "name: a, domain: target, epochs").replace(
        "name: b, domain: target", "name: b"
    )
    (problem,) = problems(mixed, TARGET, METHODS)
    assert "phases[1].domain: 'source' is not allowed after a target phase" in problem


def test_without_methods_a_target_phase_needs_labels():
    (problem,) = problems(PHASES, TARGET)
    assert "target.labels is none" in problem
    assert "adaptation: {methods: [adabn, coral]}" in problem


@pytest.mark.parametrize(
    ("labels", "when", "counts"),
    [
        ("none", "no_labels", True), ("few", "no_labels", False), ("all", "no_labels", False),
        ("none", "always", True), ("few", "always", True), ("all", "always", True),
    ],
)  # fmt: skip
def test_methods_may_apply_only_without_labels(labels, when, counts):
    given = f"target={{reader: {{name: phantom}}, labels: {labels}, few: {{groups_per_class: 2}}}}"
    recipe = checked(GOOD, PHASES, given, METHODS, f"adaptation.when={when}")
    assert (recipe.adapts_by is not None) == counts
    assert ("adapts by adabn" in summary(recipe)) == counts
    assert recipe.adaptation.when == when
    assert check(write(recipe), name="a.yaml") == recipe

"""The keys `augment.policy` and `augment.exact`."""

import pytest
from example_plug_ins import GOOD, Cutout, checked

from kerastl import augment
from kerastl.augment.presets import POLICIES
from kerastl.errors import Problems
from kerastl.recipe import Operation, check, write

MADE_UP = pytest.mark.usefixtures("made_up_plug_ins")
POLICY = [("cutout", Cutout(area=0.1)), ("random_flip", None)]


def with_policies(*sets, text=GOOD, policy_of=lambda name: POLICY):
    return check(text, name="flowers.yaml", policy_of=policy_of, sets=sets)


@MADE_UP
def test_the_short_form_of_a_policy_equals_the_key():
    assert with_policies("augment=light") == with_policies("augment={policy: light}")


@MADE_UP
@pytest.mark.parametrize(("short", "operations"), [("light", POLICY), ("[random_flip]", POLICY[1:])])
def test_a_key_next_to_the_short_form_keeps_the_policy(short, operations):
    """Both as a second set option and as a set option on the file."""
    for text, first in ((GOOD, [f"augment={short}"]), (f"{GOOD}augment: {short}\n", [])):
        recipe = with_policies(*first, "augment.placement=device", "augment.exact=true", text=text)
        assert recipe.augment.operations == tuple(Operation(*fields) for fields in operations)
        assert recipe.augment.placement == "device"
        assert recipe.augment.exact


@MADE_UP
def test_the_operations_of_the_policy_precede_those_of_the_recipe():
    recipe = with_policies("augment={policy: light, operations: [{name: cutout, area: 0.5}]}")
    named = tuple(Operation(*fields) for fields in POLICY)
    assert recipe.augment.operations == (*named, Operation("cutout", Cutout(area=0.5)))


@MADE_UP
def test_the_resolved_recipe_repeats_the_run_when_the_policy_has_changed():
    recipe = with_policies("augment={policy: light, operations: [random_flip], exact: true}")
    assert recipe.augment.policy == "none"
    text = write(recipe)
    assert "exact: true" in text
    assert with_policies(text=text, policy_of=lambda name: []) == recipe


@MADE_UP
def test_policy_none_is_not_looked_up():
    assert with_policies("augment=none", policy_of=None).augment.operations == ()
    with pytest.raises(TypeError, match="policy_of is needed"):
        with_policies("augment=light", policy_of=None)


def problem_of(*sets):
    with pytest.raises(Problems) as caught:
        checked(GOOD, *sets)
    (problem,) = caught.value.problems
    return str(problem)


@MADE_UP
@pytest.mark.parametrize("key", ["augment=radiografph", "augment={policy: radiografph}"])
def test_an_unknown_policy_suggests_the_closest_name(key):
    problem = problem_of(key)
    assert "must be none, light, medium, strong, radiograph or photograph" in problem
    assert "Did you mean 'radiograph'?" in problem


@MADE_UP
def test_exact_is_true_or_false():
    assert "augment.exact: must be true or false" in problem_of("augment={exact: 1}")
    assert checked(GOOD).augment.exact is False


def test_every_policy_reads_back_with_the_shipped_plug_ins():
    for name in POLICIES:
        recipe = check(
            GOOD, name="x.yaml",
            policy_of=augment.named_policy, sets=[f"augment={name}"],
        )  # fmt: skip
        again = check(write(recipe), name="y.yaml")
        assert again == recipe

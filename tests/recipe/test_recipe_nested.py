"""Operations that hold operations, as a recipe writes them: with made-up plug-ins and with the real ones."""

from dataclasses import dataclass
from typing import Annotated

import pytest
from annotated_types import MinLen
from plug_ins_drawn import GOOD, Cutout, names_of, options_of

from kerastl import registry
from kerastl.errors import Problems
from kerastl.recipe import Operation, check, write


@dataclass(frozen=True)
class Holder:
    operations: Annotated[tuple[Operation, ...], MinLen(1)]
    share: float = 0.5


def held_options(kind, name):
    return Holder if name == "holder" else options_of(kind, name)


def held_names(kind):
    return sorted([*names_of(kind), *(["holder"] if kind == "operation" else [])])


def checked(text, *sets):
    return check(text, name="f.yaml", options_of=held_options, names_of=held_names, sets=sets)


NESTED = """\
augment:
  operations:
    - random_flip
    - name: holder
      operations:
        - cutout
        - {name: holder, share: 0.1, operations: [random_flip]}
"""


def test_operations_are_read_inside_of_one_another():
    found = checked(GOOD + NESTED).augment.operations
    inner = Operation("holder", Holder((Operation("random_flip"),), 0.1))
    assert found == (
        Operation("random_flip"),
        Operation("holder", Holder((Operation("cutout", Cutout()), inner))),
    )


def test_a_written_recipe_holds_every_default_of_what_is_inside_and_reads_back_equal():
    recipe = checked(GOOD + NESTED)
    text = write(recipe)
    assert "    - name: cutout\n      area: 0.25\n" in text
    assert "      share: 0.1\n" in text
    assert checked(text) == recipe
    assert write(checked(text)) == text


def test_a_set_reaches_an_option_inside_also_beside_a_bare_name():
    recipe = checked(
        GOOD + NESTED,
        "augment.operations[1].operations[0].area=0.5",
        "augment.operations[1].operations[1].share=0.9",
    )
    held = recipe.augment.operations[1].options.operations
    assert held[0].options.area == 0.5
    assert held[1].options.share == 0.9
    short = "augment=[{name: holder, operations: [cutout]}]"
    recipe = checked(GOOD, short, "augment[0].operations[0].area=0.5")
    assert recipe.augment.operations[0].options.operations[0].options.area == 0.5


def test_each_problem_inside_is_told_with_its_line_and_the_nearest_name():
    text = GOOD + (
        "augment:\n"
        "  - name: holder\n"
        "    operations:\n"
        "      - random_flap\n"
        "      - name: cutout\n"
        "        aria: 0.5\n"
        "      - {name: cutout, area: 30}\n"
        "  - {name: holder, operations: []}\n"
        "  - holder\n"
        "  - {name: holder, operations: cutout}\n"
    )
    first = GOOD.count("\n") + 4
    with pytest.raises(Problems) as caught:
        checked(text)
    assert [str(problem) for problem in caught.value.problems] == [
        f"line {first}, augment[0].operations[0].name: there is no operation 'random_flap'. "
        "Did you mean 'random_flip'?",
        f"line {first + 2}, augment[0].operations[1].aria: unknown key. Did you mean 'area'?",
        f"line {first + 3}, augment[0].operations[2].area: must be a fraction from 0 to 1, got 30. "
        "For 30 % write 0.3.",
        f"line {first + 4}, augment[1].operations: must have at least 1.",
        f"line {first + 5}, augment[2].operations: is needed: a list, each "
        "{name: the name of an operation}, at least one.",
        f"line {first + 6}, augment[3].operations: must be a list, got 'cutout'. Write [cutout].",
    ]


REAL = """\
format: 1
data: {reader: {name: folder, path: flowers}}
backbone: {name: small_cnn, weights: none}
phases: [{name: all, epochs: 1, learning_rate: 1e-3, trainable: all}]
augment:
  - name: random_choice
    operations:
      - {name: random_rotation, max_deg: 10}
      - name: random_apply
        operations: [random_flip]
  - {name: rand_augment, magnitude: 0.3, operations: [identity, solarization]}
  - aug_mix
"""


def real(*sets):
    return check(
        REAL, name="f.yaml", options_of=registry.options_of, names_of=registry.names, sets=sets
    )


def test_the_real_ones_are_read_written_and_set():
    recipe = real("augment[0].operations[0].max_deg=5")
    choice, rand, mix = recipe.augment.operations
    rotation, apply = choice.options.operations
    assert rotation.options.max_deg == 5
    assert apply.options.apply_probability == 0.5
    assert rand.options.operations == ("identity", "solarization")
    assert mix.options.num_chains == 3
    text = write(recipe)
    again = check(text, name="x", options_of=registry.options_of, names_of=registry.names)
    assert again == recipe


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "augment[0].operations[1].operations[0]={name: random_choice, operations: [random_flip]}",
            "augment[0]: random_choice lies too deep: an operation that holds others may stand inside one such "
            "operation, not inside two.",
        ),
        ("augment[1].operations=[solarisation]", "Did you mean 'solarization'?"),
        ("augment[1].magnitude=9", "augment[1].magnitude: must be a fraction from 0 to 1, got 9."),
        ("augment[2].num_chains=0", "must be a whole number from 1 to 16, got 0."),
    ],
)
def test_what_is_wrong_with_the_real_ones_is_told(change, said):
    with pytest.raises(Problems) as caught:
        real(change)
    assert said in str(caught.value)

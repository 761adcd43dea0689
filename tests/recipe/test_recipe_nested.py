"""Operations that hold operations, as a recipe writes them: with made-up plug-ins and with the real ones."""

import pytest
from example_plug_ins import GOOD, Cutout, Holder, checked
from inline_snapshot import snapshot

from kerastl.errors import Problems
from kerastl.recipe import Operation, check, write

MADE_UP = pytest.mark.usefixtures("made_up_plug_ins")
NESTED = """\
augment:
  operations:
    - random_flip
    - name: holder
      operations:
        - cutout
        - {name: holder, share: 0.1, operations: [random_flip]}
"""


@MADE_UP
def test_nested_operations_are_read():
    operations = checked(GOOD + NESTED).augment.operations
    inner = Operation("holder", Holder((Operation("random_flip"),), 0.1))
    assert operations == (
        Operation("random_flip"),
        Operation("holder", Holder((Operation("cutout", Cutout()), inner))),
    )


@MADE_UP
def test_a_written_recipe_contains_nested_defaults_and_reads_back_equal():
    recipe = checked(GOOD + NESTED)
    text = write(recipe)
    assert "    - name: cutout\n      area: 0.25\n" in text
    assert "      share: 0.1\n" in text
    assert checked(text) == recipe
    assert write(checked(text)) == text


@MADE_UP
def test_set_changes_a_nested_option_even_next_to_a_bare_name():
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


@MADE_UP
def test_each_nested_problem_is_reported_with_its_line_and_the_closest_name():
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
    with pytest.raises(Problems) as caught:
        checked(text)
    assert [str(problem) for problem in caught.value.problems] == snapshot(
        [
            "line 11, augment[0].operations[0].name: unknown operation 'random_flap'. Did you mean 'random_flip'?",
            "line 13, augment[0].operations[1].aria: unknown key. Did you mean 'area'?",
            "line 14, augment[0].operations[2].area: must be a fraction from 0 to 1, got 30. For 30%, use 0.3.",
            "line 15, augment[1].operations: must contain at least 1 item.",
            "line 16, augment[2]: Missing required key 'operations'. Add: operations: [{name: ...}]",
            "line 17, augment[3].operations: must be a list, got 'cutout'. Use [cutout].",
        ]
    )


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
    return check(REAL, name="f.yaml", sets=sets)


def test_shipped_nested_operations_are_read_written_and_set():
    recipe = real("augment[0].operations[0].max_deg=5")
    choice, rand, mix = recipe.augment.operations
    rotation, apply = choice.options.operations
    assert rotation.options.max_deg == 5
    assert apply.options.apply_probability == 0.5
    assert rand.options.operations == ("identity", "solarization")
    assert mix.options.num_chains == 3
    text = write(recipe)
    again = check(text, name="x")
    assert again == recipe


CHANGES = (
    "augment[0].operations[1].operations[0]={name: random_choice, operations: [random_flip]}",
    "augment[1].operations=[solarisation]",
    "augment[1].magnitude=9",
    "augment[2].num_chains=0",
)


def test_problems_of_shipped_nested_operations():
    problems_by_change = {}
    for change in CHANGES:
        with pytest.raises(Problems) as caught:
            real(change)
        problems_by_change[change] = [str(problem) for problem in caught.value.problems]
    assert problems_by_change == snapshot(
        {
            "augment[0].operations[1].operations[0]={name: random_choice, operations: [random_flip]}": [
                "line 9, augment[0].operations[1]: random_choice is nested too deeply: at most two levels are allowed. List its operations in its place."
            ],
            "augment[1].operations=[solarisation]": [
                "--set augment[1].operations[0]: must be identity, auto_contrast, equalization, random_rotation, solarization, random_saturation, posterization, random_contrast, random_brightness, random_sharpness, random_shear or random_translation, got 'solarisation'. Did you mean 'solarization'?"
            ],
            "augment[1].magnitude=9": [
                "--set augment[1].magnitude: must be a fraction from 0 to 1, got 9. For 9%, use 0.09."
            ],
            "augment[2].num_chains=0": [
                "--set augment[2].num_chains: must be an integer from 1 to 16, got 0."
            ],
        }
    )

"""The key `augment.mixing`, with made-up plug-ins and with the real ones."""

import pytest
from example_plug_ins import GOOD, Alpha, checked

from kerastl.errors import Problems
from kerastl.recipe import Mixing, check, write

MADE_UP = pytest.mark.usefixtures("made_up_plug_ins")


def problems(*sets):
    with pytest.raises(Problems) as caught:
        checked(GOOD, *sets)
    return [str(problem) for problem in caught.value.problems]


@MADE_UP
def test_mixing_is_off_by_default():
    assert checked(GOOD).augment.mixing == ()
    assert checked(GOOD, "augment=[random_flip]").augment.mixing == ()


@MADE_UP
def test_a_mixing_is_a_name_or_a_mapping_with_options():
    recipe = checked(GOOD, "augment={mixing: [cut_mix, {name: mix_up, alpha: 0.2}]}")
    assert recipe.augment.mixing == (Mixing("cut_mix"), Mixing("mix_up", Alpha(0.2)))
    longer = ["augment={mixing: [cut_mix, mix_up]}", "augment.mixing[1].alpha=0.2"]
    assert checked(GOOD, *longer) == recipe
    again = check(write(recipe), name="again.yaml")
    assert again == recipe


@MADE_UP
@pytest.mark.parametrize(
    ("mixing", "expected_text"),
    [
        ("mix_up", "augment.mixing: must be a list, got 'mix_up'. Use [mix_up]."),
        ("[mixup]", "augment.mixing[0].name: unknown mixing operation 'mixup'. Did you mean 'mix_up'?"),
        ("[{name: mix_up, alpha: 3}]", "augment.mixing[0].alpha: must be a number from 0.1 to 2, got 3."),
        ("[{name: mix_up, alfa: 1}]", "augment.mixing[0].alfa: unknown key. Did you mean 'alpha'?"),
        ("[{alpha: 1}]", "augment.mixing[0]: Missing required key 'name', which must be cut_mix or mix_up."),
        ("[random_flip]", "augment.mixing[0].name: 'random_flip' is not a mixing operation. It is allowed in augment.operations."),
    ],
)  # fmt: skip
def test_an_invalid_mixing_is_one_problem_that_states_what_is_allowed(mixing, expected_text):
    reported = problems(f"augment={{mixing: {mixing}}}")
    assert len(reported) == 1
    assert expected_text in reported[0]


@MADE_UP
def test_a_mixing_among_the_operations_is_refused_with_the_key_that_allows_it():
    (problem,) = problems("augment=[mix_up]")
    assert "augment[0].name: 'mix_up' is not an operation. It is allowed in augment.mixing." in problem


@MADE_UP
def test_batches_of_one_image_cannot_be_mixed():
    reported = problems("augment={mixing: [cut_mix]}", "data.batch_size=1")
    assert len(reported) == 1
    assert "augment.mixing: needs batches of at least two images" in reported[0]
    assert checked(GOOD, "data.batch_size=1").augment.mixing == ()


@MADE_UP
def test_an_invalid_short_list_of_operations_reports_only_its_own_problems():
    assert len(problems("augment=[{name: cutout, area: 30}]", "data.batch_size=1")) == 1


def test_the_shipped_mixings_check_their_bounds():
    sets = ["augment={mixing: [{name: fourier_mix, alpha: -1, decay_power: 11}]}"]
    sets += ["data.reader={name: folder, path: x}", "backbone={name: small_cnn, weights: none}"]
    sets += ["phases[0].trainable=all"]
    with pytest.raises(Problems) as caught:
        check(GOOD, name="x.yaml", sets=sets)
    message = "\n".join(str(problem) for problem in caught.value.problems)
    assert "augment.mixing[0].alpha: must be a number from 0 to 100, got -1" in message
    assert "augment.mixing[0].decay_power: must be a number from 0 to 10, got 11" in message

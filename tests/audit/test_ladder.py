import pytest

from kerastl import registry
from kerastl.audit import recipe_trials, standard_trials
from kerastl.errors import RequestError


def _options(name, **values):
    return registry.options_of("operation", name)(**values)


def test_a_recipes_own_strength_is_the_top_of_its_ladder():
    own = _options("random_rotation", max_deg=20.0, apply_probability=0.4)
    trials = recipe_trials("random_rotation", own)
    assert [(one.strength, one.options.max_deg) for one in trials] == [(0.25, 5.0), (0.5, 10.0), (1.0, 20.0)]
    assert {one.options.apply_probability for one in trials} == {1.0}
    assert trials[-1].recipe_options == own


def test_what_is_not_a_strength_stays():
    (trial,) = recipe_trials("random_flip", _options("random_flip", direction="vertical"))
    assert trial.options.direction == "vertical"


def test_an_operation_whose_strength_is_how_often_has_one_rung():
    (trial,) = standard_trials("grayscale")
    assert trial.strength == 1.0
    assert trial.options.apply_probability == 1.0


def test_what_does_nothing_is_not_tried():
    assert recipe_trials("random_zoom", _options("random_zoom", max_fraction=0.0)) == []


@pytest.mark.parametrize("name", registry.names("operation"))
def test_every_operation_has_a_ladder_of_rising_strengths(name):
    trials = standard_trials(name)
    assert trials
    assert [one.strength for one in trials] == sorted({one.strength for one in trials})


def test_an_unknown_operation_is_named():
    with pytest.raises(RequestError, match="Did you mean 'random_flip'"):
        standard_trials("random_flop")

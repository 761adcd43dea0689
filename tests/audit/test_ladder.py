import pytest
from ruamel.yaml import YAML

from kerastl import registry
from kerastl.audit import Verdict, policy_yaml, recipe_trials, standard_trials
from kerastl.augment.operation_options import parse_operations
from kerastl.errors import RequestError


def _options(name, **values):
    return registry.options_of("operation", name)(**values)


def test_strength_1_is_the_options_of_the_recipe():
    own = _options("random_rotation", max_deg=20.0, apply_probability=0.4)
    trials = recipe_trials("random_rotation", own)
    assert [(trial.strength, trial.options.max_deg) for trial in trials] == [
        (0.25, 5.0),
        (0.5, 10.0),
        (1.0, 20.0),
    ]
    assert {trial.options.apply_probability for trial in trials} == {1.0}
    assert trials[-1].recipe_options == own


def test_options_other_than_the_strength_are_kept():
    (trial,) = recipe_trials("random_flip", _options("random_flip", direction="vertical"))
    assert trial.options.direction == "vertical"


def test_an_operation_with_probability_as_strength_has_one_trial():
    (trial,) = standard_trials("grayscale")
    assert trial.strength == 1.0
    assert trial.options.apply_probability == 1.0


def test_identities_are_not_audited():
    assert recipe_trials("random_zoom", _options("random_zoom", max_fraction=0.0)) == []


@pytest.mark.parametrize("name", registry.names("operation"))
def test_every_operation_has_trials_of_rising_strength(name):
    trials = standard_trials(name)
    assert trials
    assert [trial.strength for trial in trials] == sorted({trial.strength for trial in trials})


def test_an_unknown_operation_is_reported_with_a_suggestion():
    with pytest.raises(RequestError, match="Did you mean 'random_flip'"):
        standard_trials("random_flop")


@pytest.mark.parametrize("name", ["random_apply", "random_choice", "random_rotation"])
def test_the_policy_of_a_trial_reads_back_to_its_options(name):
    trial = standard_trials(name)[0]
    verdict = Verdict(name, "safe", trial, (), (), (), False)
    (operation,) = YAML(typ="safe").load(policy_yaml([verdict], ("a", "b")))["augment"]
    assert parse_operations([operation]) == [(name, trial.recipe_options)]

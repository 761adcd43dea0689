"""Every registered adaptation method fulfills the contract, and wrong options are refused."""

import pytest

from kerastl import registry
from kerastl.adaptation import named_options
from kerastl.errors import RequestError
from kerastl.testing.adaptation import check_adaptation

SLOW = {
    "cdan", "mdd",  # adversarial, as dann
    "jan", "mmd",  # a distance between features, as coral
    "histogram_matching", "reinhard",  # change the style of the source, as fda
    "mcc", "pseudo_labels",  # use the predictions on the target, as shot and tent
    "fixmatch", "strong_augmentation",  # compile an augmentation policy for every batch size
}  # fmt: skip
"""Methods that work as one of the others does; each contract check takes seconds of tracing."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
        for name in registry.names("adaptation")
    ],
)
def test_a_method_fulfills_the_contract(name):
    check_adaptation(name)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("coral", {"weight": -1}, ["weight", "-1"]),
        ("coral", {"wieght": 1}, ["wieght", "'weight'"]),
        ("mmd", {"estimate": "robust"}, ["estimate", "biased", "unbiased"]),
        ("dann", {"hidden": 2.5}, ["hidden", "2.5"]),
        ("cdan", {"entropy_conditioning": "yes"}, ["entropy_conditioning", "'yes'"]),
        ("fda", {"beta": 0.6}, ["beta", "0.6", "0.5"]),
        ("reinhard", {"share": 0}, ["share", "0"]),
        ("fixmatch", {"threshold": 1.5}, ["threshold", "1.5"]),
        ("strong_augmentation", {"policy": "none"}, ["policy", "light", "medium", "strong"]),
        ("dan", {}, ["'dan'", "'dann'"]),
        ("coral", 3, ["3"]),
    ],
)
def test_wrong_options_are_refused_by_name_with_the_value_or_what_is_allowed(name, options, words):
    with pytest.raises(RequestError) as caught:
        named_options(name, options)
    assert all(word in str(caught.value) for word in words), str(caught.value)

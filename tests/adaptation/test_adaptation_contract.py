"""Every registered adaptation method fulfills the contract, and wrong options are refused."""

import pytest

from kerastl import registry
from kerastl.adaptation import method_options
from kerastl.errors import RequestError
from kerastl.testing import check_adaptation

SLOW = {
    "cdan", "mdd",  # adversarial, as dann
    "jan", "mmd",  # a distance between features, as coral
    "histogram_matching", "reinhard",  # change the style of the source, as fda
    "mcc", "pseudo_labels",  # use the predictions on the target, as shot
    "tent",  # trains BatchNorm, as adabn
    "source_only",  # classifies source images, as all of the others
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
    ("name", "options", "message_parts"),
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
def test_wrong_options_are_rejected_with_name_and_value(name, options, message_parts):
    with pytest.raises(RequestError) as caught:
        method_options(name, options)
    assert all(part in str(caught.value) for part in message_parts), str(caught.value)

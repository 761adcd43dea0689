"""Every method keeps the contract; a loop over methods knows how many there are."""

import pytest

from kerastl import registry
from kerastl.adaptation import method_named, named_options
from kerastl.errors import RequestError
from kerastl.testing.adaptation import check_adaptation

NAMES = registry.names("adaptation")
KNOWN = {
    "adabn", "cdan", "coral", "dann", "fda", "fine_tune", "fixmatch", "histogram_matching", "jan", "mcc", "mdd",
    "mmd", "pseudo_labels", "reinhard", "shot", "source_only", "strong_augmentation", "tent",
}  # fmt: skip


def test_the_methods_are_these():
    assert set(NAMES) == KNOWN


# Their policies are compiled anew for each size of batch.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in {"fixmatch", "strong_augmentation"} else name
        for name in NAMES
    ],
)
def test_every_method_keeps_its_promises(name):
    check_adaptation(name)


def test_the_source_free_methods_and_those_that_read_labels_are_these():
    facts = {name: method_named(name) for name in NAMES}
    assert {name for name in NAMES if facts[name].source_free} == {"shot", "tent"}
    assert {name for name in NAMES if facts[name].target_labels == "some"} == {"fine_tune"}
    assert {name for name in NAMES if facts[name].moves_statistics} == {"adabn", "tent"}
    assert {name for name in NAMES if facts[name].changes_pixels} == {
        "fda", "fixmatch", "histogram_matching", "reinhard", "strong_augmentation",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("coral", {"weight": -1}, "weight: must be a number from 0"),
        ("coral", {"wieght": 1}, "wieght: unknown key. Did you mean 'weight'?"),
        ("mmd", {"estimate": "robust"}, "must be biased or unbiased"),
        ("dann", {"hidden": 2.5}, "hidden: must be a whole number"),
        ("cdan", {"entropy_conditioning": "yes"}, "must be true or false"),
        ("fda", {"beta": 0.6}, "beta: must be a number from 0 to 0.5"),
        ("reinhard", {"share": 0}, "share: must be a fraction above 0"),
        ("fixmatch", {"threshold": 1.5}, "threshold: must be a fraction from 0 to 1"),
        ("strong_augmentation", {"policy": "none"}, "must be light, medium, strong"),
        ("dan", {}, "Did you mean 'dann'?"),
        ("coral", 3, "must be a mapping, got 3"),
    ],
)
def test_what_is_wrong_is_told_with_what_is_allowed(name, options, told):
    with pytest.raises(RequestError) as caught:
        named_options(name, options)
    assert told in str(caught.value)

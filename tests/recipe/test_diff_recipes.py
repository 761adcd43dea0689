"""The differences between two recipes that a refused resume reports."""

import pytest
import yaml

from kerastl.recipe import diff_recipes

OLD = {
    "seed": 0,
    "data": {"batch_size": 8, "window": "full"},
    "methods": [{"name": "adabn"}, {"name": "coral", "weight": 1.0}, {"name": "dann"}],
    "formats": [],
}


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({}, []),
        ({"seed": 1}, ["seed: changed from 0 to 1"]),
        (
            {"data": {"batch_size": 9, "window": {"center": 5.0}}},
            ["data.batch_size: changed from 8 to 9", "data.window: changed from full to {center: 5.0}"],
        ),
        ({"methods": [{"name": "class_ami"}, *OLD["methods"]]}, ["methods[0]: added {name: class_ami}"]),
        ({"methods": OLD["methods"][1:]}, ["methods[0]: removed {name: adabn}"]),
        (
            {"methods": [OLD["methods"][0], {"name": "coral", "weight": 2.0}, {"name": "dann"}]},
            ["methods[1].weight: changed from 1.0 to 2.0"],
        ),
        ({"methods": [*OLD["methods"][:2], {"name": "dann", "epochs": 3}]}, ["methods[2].epochs: added 3"]),
        ({"formats": ["tflite"]}, ["formats[0]: added tflite"]),
    ],
)
def test_only_different_values_are_reported(changes, lines):
    texts = [yaml.safe_dump(recipe, sort_keys=False) for recipe in (OLD, OLD | changes)]
    assert diff_recipes(*texts) == lines


def test_text_that_is_not_yaml_has_no_differences():
    assert diff_recipes("a: [", "a: 1") == []

"""What a resumed run says differs from the recipe that it began with."""

import pytest
import yaml

from kerastl.workflows.run_writer import differences

BEGAN = {
    "seed": 0,
    "data": {"batch_size": 8, "window": "full"},
    "methods": [{"name": "adabn"}, {"name": "coral", "weight": 1.0}, {"name": "dann"}],
    "formats": [],
}


@pytest.mark.parametrize(
    ("now", "lines"),
    [
        ({}, []),
        ({"seed": 1}, ["seed: it began with 0, now it is 1"]),
        (
            {"data": {"batch_size": 9, "window": {"center": 5.0}}},
            [
                "data.batch_size: it began with 8, now it is 9",
                "data.window: it began with full, now it is {center: 5.0}",
            ],
        ),
        (
            {"methods": [{"name": "class_ami"}, *BEGAN["methods"]]},
            ["methods[0]: it began without {name: class_ami}"],
        ),
        (
            {"methods": BEGAN["methods"][1:]},
            ["methods[0]: it began with {name: adabn}, now that is not there"],
        ),
        (
            {"methods": [BEGAN["methods"][0], {"name": "coral", "weight": 2.0}, {"name": "dann"}]},
            ["methods[1].weight: it began with 1.0, now it is 2.0"],
        ),
        (
            {"methods": [*BEGAN["methods"][:2], {"name": "dann", "epochs": 3}]},
            ["methods[2].epochs: it began without, now it is 3"],
        ),
        ({"formats": ["tflite"]}, ["formats[0]: it began without tflite"]),
    ],
)
def test_only_what_differs_is_told(now, lines):
    texts = [yaml.safe_dump(recipe, sort_keys=False) for recipe in (BEGAN, BEGAN | now)]
    assert differences(*texts) == lines


def test_what_is_no_recipe_any_more_has_no_differences_to_tell():
    assert differences("a: [", "a: 1") == []

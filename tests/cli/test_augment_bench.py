"""`kerastl augment bench`: what it prints; no time is asserted."""

import json

import pytest

from kerastl.cli import main

SMALL = ["--set", "data.image_size_px=32", "--set", "data.batch_size=4", "--rounds", "1"]


@pytest.fixture
def bench(capsys):
    def call(*words):
        with pytest.raises(SystemExit) as left:
            main(["augment", "bench", *words])
        out, err = capsys.readouterr()
        return left.value.code, out, err

    return call


def test_each_operation_and_the_whole_policy_are_told_with_how_they_are_done(bench):
    augment = "augment=[{name: random_flip}, {name: random_jpeg_quality}]"
    code, out, err = bench("quickstart", *SMALL, "--set", augment, "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["image_size_px"] == 32
    assert [(row["name"], row["lowering"]) for row in told["rows"]] == [
        ("random_flip", "folded"),
        ("random_jpeg_quality", "layer"),
        ("the whole policy", "folded, layer"),
    ]
    assert all(row["compiled"] > 0 and row["exact"] > 0 for row in told["rows"])


def test_the_table_names_what_is_corrected(bench):
    cutout = "augment=[{name: random_cutout, max_fraction: 0.3}]"
    code, out, err = bench("quickstart", *SMALL, "--set", cutout)
    assert code == 0, err
    assert "random_cutout*" in out
    assert "compiled" in out


def test_a_recipe_without_operations_is_told_what_to_type(bench):
    code, _, err = bench("quickstart")
    assert code == 1
    assert "--set augment=light" in err


def test_help_has_examples(bench):
    assert "kerastl augment bench mine.yaml" in bench("--help")[1]

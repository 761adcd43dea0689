"""Warnings about unusual target images, labels and patients."""

import dataclasses

import numpy as np
import pytest
from make_runs import TWO_HOSPITALS
from PIL import Image

from kerastl.data import Record
from kerastl.recipe import RecipeText
from kerastl.workflows import Datasets
from kerastl.workflows.check_recipe import check_recipe
from kerastl.workflows.datasets import warn_about_target

WINDOW = (100.0, 1000.0)


def write_images(folder, split, low, high, *, deep=True, count=4, group=None):
    """Write images with uniform random values from `low` to below `high`."""
    folder.mkdir(exist_ok=True)
    generator = np.random.default_rng(3)
    dtype = np.uint16 if deep else np.uint8
    records = []
    for number in range(count):
        file = folder / f"{split}{number}.png"
        Image.fromarray(generator.integers(low, high, (20, 20)).astype(dtype)).save(file)
        records.append(Record(file.name, file, None, split, group and f"{group}{number}"))
    return records


@pytest.fixture
def warnings(tmp_path):
    """Return the warnings about records of source and target, for a recipe with changes."""

    def warn(records, *sets, window=WINDOW, oracle=True):
        for name in "ab":
            (tmp_path / name).mkdir(exist_ok=True)
        text = TWO_HOSPITALS.format(
            source=tmp_path / "a", target=tmp_path / "b", source_epochs=1, epochs=1, methods="[coral]",
            adapt="learning_rate: 1e-4, trainable: all",
        )  # fmt: skip
        recipe = check_recipe(RecipeText("two", "two.yaml", text), sets)
        datasets = Datasets(
            tuple(records), ("dark", "light"), 32, window, "none", None, None, (), {}, ("first",)
        )
        first, *rest = warn_about_target(recipe, datasets, oracle=oracle).notes
        assert first == "first"
        return rest

    return warn


@pytest.fixture
def usual(tmp_path):
    """Images of both domains without a reason for a warning."""
    test_images = write_images(tmp_path / "t", "target_test", 100, 1000, group="t")
    return [*write_images(tmp_path / "s", "train", 100, 1000, group="p"), *test_images]


def test_images_like_those_of_the_source_give_no_note(warnings, usual, tmp_path):
    assert warnings([*usual, *write_images(tmp_path / "t", "target_unlabelled", 90, 1000, group="u")]) == []


def test_the_share_of_values_outside_the_window_is_reported(warnings, usual, tmp_path):
    # Of the values from 100 to 9100, nine in ten are above 1000.
    [line] = warnings([*usual, *write_images(tmp_path / "t", "target_unlabelled", 100, 9100, count=30)])
    share = int(line.partition("%")[0])
    assert abs(share - 90) <= 1
    assert "100 to 1000" in line
    assert "estimated" in line
    given = "data.window={center: 550, width: 900}"
    [line] = warnings(
        [*usual, *write_images(tmp_path / "t", "target_unlabelled", 100, 9100, count=30)], given
    )
    assert "estimated" not in line


def test_images_of_one_gray_value_are_counted(warnings, usual, tmp_path):
    flat = write_images(tmp_path / "t", "target_unlabelled", 500, 501, count=6)
    assert "6 of 6" in warnings([*usual, *flat])[0]
    many = [dataclasses.replace(flat[0], path=str(n), label="dark", split="target_train") for n in range(100)]
    [line] = warnings([*usual, *many])
    assert "64 of 64" in line


def test_test_images_are_not_opened(warnings, usual, tmp_path):
    for record in usual:
        if record.split == "target_test":
            record.file.unlink()
    assert warnings([*usual, *write_images(tmp_path / "t", "target_unlabelled", 100, 1000)]) == []


@pytest.mark.parametrize("source_is_deep", [True, False])
def test_another_bit_depth_than_at_the_source_is_reported(warnings, tmp_path, source_is_deep):
    source = write_images(tmp_path / "s", "train", 0, 200, deep=source_is_deep)
    target = write_images(tmp_path / "t", "target_unlabelled", 0, 200, deep=not source_is_deep)
    [line] = warnings([*source, *target], window=None, oracle=False)
    depths = [line.index(depth) for depth in ("16-bit", "8-bit")]
    assert (depths[0] < depths[1]) == source_is_deep, "the source comes first"


def test_labels_that_no_method_uses_are_reported(warnings, usual):
    [line] = warnings(usual, "target.labels=all", "target.split.val_fraction=0.1")
    assert "target.labels" in line
    assert "coral" in line
    assert "fine_tune" in line
    assert "hospital-adaptation" in line
    assert warnings(usual, "target.labels=all", "adaptation.methods=[coral, fine_tune]") == []


def test_a_target_without_patients_is_reported_where_the_source_has_some(warnings, usual, tmp_path):
    source = usual[:4]
    target = write_images(tmp_path / "t", "target_test", 100, 1000)
    [line] = warnings([*source, *target])
    assert "target.reader.group_pattern" in line
    alone = [dataclasses.replace(record, group=None) for record in source]
    assert warnings([*alone, *target]) == []


def test_an_oracle_without_labeled_test_images_is_reported(warnings, usual):
    assert warnings(usual[:4], oracle=False) == []
    [line] = warnings(usual[:4])
    assert "--oracle" in line

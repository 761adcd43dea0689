"""Notes on a target with unusual images, labels or patients, though nothing is wrong."""

import dataclasses

import numpy as np
import pytest
from PIL import Image
from runs_drawn import TWO_HOSPITALS

from kerastl.data import Record
from kerastl.recipe import RecipeText
from kerastl.workflows import Datasets, warn_about_target
from kerastl.workflows.check_recipe import check_recipe

WINDOW = (100.0, 1000.0)


def drawn(folder, split, low, high, *, deep=True, count=4, group=None):
    """Draw images whose values are uniform from `low` to below `high`."""
    folder.mkdir(exist_ok=True)
    generator = np.random.default_rng(3)
    kind = np.uint16 if deep else np.uint8
    records = []
    for number in range(count):
        file = folder / f"{split}{number}.png"
        Image.fromarray(generator.integers(low, high, (20, 20)).astype(kind)).save(file)
        records.append(Record(file.name, file, None, split, group and f"{group}{number}"))
    return records


@pytest.fixture
def notes(tmp_path):
    """Return the notes on a recipe, changed, and on records of source and target."""

    def of(records, *sets, window=WINDOW, oracle=True):
        for name in "ab":
            (tmp_path / name).mkdir(exist_ok=True)
        text = TWO_HOSPITALS.format(
            source=tmp_path / "a", target=tmp_path / "b", source_epochs=1, epochs=1, methods="[coral]",
            adapt="learning_rate: 1e-4, trainable: all",
        )  # fmt: skip
        recipe = check_recipe(RecipeText("two", "two.yaml", text), sets)
        images = Datasets(
            tuple(records), ("dark", "light"), 32, window, "none", None, None, (), {}, ("first",)
        )
        first, *rest = warn_about_target(recipe, images, oracle=oracle).notes
        assert first == "first"
        return rest

    return of


@pytest.fixture
def fine(tmp_path):
    """Datasets of both that nothing is to be said of."""
    tested = drawn(tmp_path / "t", "target_test", 100, 1000, group="t")
    return [*drawn(tmp_path / "s", "train", 100, 1000, group="p"), *tested]


def test_images_like_those_of_the_source_give_no_note(notes, fine, tmp_path):
    assert notes([*fine, *drawn(tmp_path / "t", "target_unlabelled", 90, 1000, group="u")]) == []


def test_the_share_of_values_outside_the_window_is_reported(notes, fine, tmp_path):
    # 9 of 10 values lie above 1000: from 0 to 10000, 0.09 to 0.1 are within.
    [line] = notes([*fine, *drawn(tmp_path / "t", "target_unlabelled", 100, 9100, count=30)])
    share = int(line.partition(" %")[0])
    assert abs(share - 90) <= 1
    assert "100 to 1000" in line
    assert "measured" in line
    given = "data.window={center: 550, width: 900}"
    [line] = notes([*fine, *drawn(tmp_path / "t", "target_unlabelled", 100, 9100, count=30)], given)
    assert "measured" not in line


def test_images_of_one_gray_value_are_counted(notes, fine, tmp_path):
    flat = drawn(tmp_path / "t", "target_unlabelled", 500, 501, count=6)
    assert "6 of 6" in notes([*fine, *flat])[0]
    many = [dataclasses.replace(flat[0], path=str(n), label="dark", split="target_train") for n in range(100)]
    [line] = notes([*fine, *many])
    assert "64 of the 64" in line


def test_test_images_are_not_opened(notes, fine, tmp_path):
    for record in fine:
        if record.split == "target_test":
            record.file.unlink()
    assert notes([*fine, *drawn(tmp_path / "t", "target_unlabelled", 100, 1000)]) == []


@pytest.mark.parametrize("source_is_deep", [True, False])
def test_another_bit_depth_than_at_the_source_is_reported(notes, tmp_path, source_is_deep):
    source = drawn(tmp_path / "s", "train", 0, 200, deep=source_is_deep)
    target = drawn(tmp_path / "t", "target_unlabelled", 0, 200, deep=not source_is_deep)
    [line] = notes([*source, *target], window=None, oracle=False)
    depths = [line.index(depth) for depth in ("16-bit", "8-bit")]
    assert (depths[0] < depths[1]) == source_is_deep, "the source comes first"


def test_labels_that_no_method_uses_are_reported(notes, fine):
    [line] = notes(fine, "target.labels=all", "target.split.val_fraction=0.1")
    assert "target.labels" in line
    assert "coral" in line
    assert "fine_tune" in line
    assert "hospital-adaptation" in line
    assert notes(fine, "target.labels=all", "adaptation.methods=[coral, fine_tune]") == []


def test_a_target_without_patients_is_reported_where_the_source_has_some(notes, fine, tmp_path):
    source = fine[:4]
    target = drawn(tmp_path / "t", "target_test", 100, 1000)
    [line] = notes([*source, *target])
    assert "target.reader.group_pattern" in line
    alone = [dataclasses.replace(record, group=None) for record in source]
    assert notes([*alone, *target]) == []


def test_an_oracle_without_labeled_test_images_is_reported(notes, fine):
    assert notes(fine[:4], oracle=False) == []
    [line] = notes(fine[:4])
    assert "--oracle" in line

"""Warnings about unusual target images, labels and patients."""

import dataclasses

import numpy as np
import pytest
from make_runs import TWO_HOSPITALS, two_hospitals_recipe
from PIL import Image

from kerastl.data import Record
from kerastl.errors import RequestError
from kerastl.recipe import RecipeText
from kerastl.runs import Run
from kerastl.workflows import Datasets, load_datasets
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
            tuple(records), ("dark", "light"), (32, 32), window, "none", None, None, (), {}, ("first",)
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
    [line] = warnings([*source, *target], window=(0, 199), oracle=False)
    depths = [line.index(depth) for depth in ("16-bit", "8-bit")]
    assert (depths[0] < depths[1]) == source_is_deep, "the source comes first"
    assert ("to the source only" in line) == source_is_deep


RANGES = [((0, 65535), 4096), ((0, 65535), 256), ((0, 4095), 256), (None, 4096), ((1000, 60000), 5000)]


@pytest.mark.parametrize(("window", "levels"), RANGES)
def test_target_that_is_stored_with_fewer_bits_is_rejected_unless_the_window_is_given(
    warnings, tmp_path, window, levels
):
    source = write_images(tmp_path / "s", "train", 0, 60_000)
    target = write_images(tmp_path / "t", "target_unlabelled", 0, levels, count=12)
    with pytest.raises(RequestError, match=r"nearly uniform.*--set 'data\.window="):
        warnings([*source, *target], window=window, oracle=False)
    warnings([*source, *target], "data.window=full", window=window, oracle=False)


def images_of(folder, highest: int, name: str) -> None:
    """Images of a dark and a light class, with 8 bits if `highest` is 255."""
    generator = np.random.default_rng([highest, *folder.name.encode()])
    kind = np.uint8 if highest == 255 else np.uint16
    for label, share in (("dark", 0.5), ("light", 1)):
        for number in range(6):
            file = folder / label / f"{name}{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = generator.integers(0, int(highest * share) + 1, (16, 16))
            Image.fromarray(pixels.astype(kind)).save(file)


@pytest.fixture
def load(tmp_path):
    """Return a function that loads the datasets of a recipe for the images in `a` and `b`."""

    def load(*sets):
        text = two_hospitals_recipe(
            tmp_path,
            source_epochs=1,
            epochs=1,
            methods="[coral]",
            adapt="learning_rate: 1e-4, trainable: all",
        ).replace("group_pattern: '([a-z]+/\\d+)'", "group_pattern: null")
        recipe = check_recipe(RecipeText("two", "two.yaml", text), sets)
        return load_datasets(recipe, Run(tmp_path / "run"))

    return load


def brightest(datasets, domain: str) -> float:
    records = [record for record in datasets.records if record.domain == domain]
    return max(float(images.numpy().max()) for images, _ in datasets.dataset(records).batches(0))


@pytest.mark.parametrize("highest", [1023, 65535])
def test_deeper_images_of_hospital_b_use_their_own_range(load, tmp_path, highest):
    images_of(tmp_path / "a", 255, "p")
    images_of(tmp_path / "b", highest, "p")
    datasets = load()
    assert brightest(datasets, "source") > 240
    assert brightest(datasets, "target") > 240
    assert 0.95 * highest < datasets.window[1] <= highest


def test_bit_depths_that_are_mixed_in_one_dataset_use_the_range_of_the_deeper_images(load, tmp_path):
    for hospital in "ab":
        images_of(tmp_path / hospital, 255, "p")
        images_of(tmp_path / hospital, 4095, "q")
    datasets = load()
    assert 3900 < datasets.window[1] <= 4095


def test_deeper_images_in_test_only_are_rejected(load, tmp_path):
    for split, highest in (("train", 255), ("test", 4095)):
        images_of(tmp_path / "a" / split, highest, "p")
    images_of(tmp_path / "b", 255, "p")
    with pytest.raises(RequestError, match=r"12 validation or test images of 16 bits.*--set 'data\.window="):
        load()
    assert load("data.window={center: 2047.5, width: 4095}").window == (0, 4095)


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


@pytest.mark.parametrize(
    ("resize", "methods", "names"),
    [
        ("pad", "[reinhard, coral, {name: fda, beta: 0.05}]", "reinhard and fda count"),
        ("pad", "[fda]", "fda counts"),
        ("pad", "[coral, adabn]", None),
        ("crop", "[reinhard, fda]", None),
        ("stretch", "[histogram_matching]", None),
    ],
)
def test_style_methods_with_padding_are_reported(warnings, usual, resize, methods, names):
    texts = warnings(usual, f"data.resize={resize}", f"adaptation.methods={methods}")
    padding = [text for text in texts if "padding" in text]
    assert bool(padding) == bool(names)
    assert all(text.startswith(names) and "stretch or crop" in text for text in padding)

"""16-bit images have one window by default: that of the training split, from the dataset to the export."""

import json

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import kerastl
from kerastl.errors import RequestError
from kerastl.evaluation import predict
from kerastl.models import read_signature, write_signature

SIZE = 16


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Thirty images of 12-bit values in 16-bit PNG, of two classes."""
    folder = tmp_path_factory.mktemp("scans")
    generator = np.random.default_rng(0)
    for label, (low, high) in {"dark": (0, 2500), "light": (1500, 4096)}.items():
        (folder / label).mkdir()
        for number in range(15):
            pixels = generator.integers(low, high, (SIZE, SIZE)).astype(np.uint16)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def collection(scans):
    return kerastl.read_images(scans).split(val_fraction=0.2, test_fraction=0.2, seed=7)


def brightest(dataset):
    return max(float(images.numpy().max()) for images, _ in dataset)


@pytest.mark.slow
def test_all_splits_have_the_window_of_the_training_split(collection):
    datasets = [
        kerastl.ImageDataset(part, image_size_px=SIZE)
        for part in (collection.train, collection.val, collection.test)
    ]
    values = np.concatenate([np.asarray(Image.open(record.file)) for record in collection.train.records])
    expected = np.percentile(values, [0.5, 99.5])
    for dataset in datasets:
        np.testing.assert_allclose(dataset.window, expected, atol=2)
        assert brightest(dataset.batches(0)) == 255
        assert brightest(dataset.as_tf_dataset()) == 255


def test_a_given_window_and_the_full_range_are_used_as_given(collection):
    def build(window):
        return kerastl.ImageDataset(collection.train, image_size_px=SIZE, window=window)

    assert build((0, 4095)).window == build({"center": 2047.5, "width": 4095.0}).window == (0, 4095)
    assert brightest(build("full").batches(0)) == pytest.approx(4095 / 257, abs=0.1)


def test_predict_uses_the_window_that_the_model_stores_unless_one_is_given(collection):
    model = kerastl.build_classifier(
        "small_cnn", weights="none", class_names=collection.class_names, image_size_px=SIZE
    )
    write_signature(model, window=(0, 9000))
    logits = {
        window: predict(
            model, kerastl.ImageDataset(collection.test, image_size_px=SIZE, window=window)
        ).logits
        for window in ("auto", (0, 9000), "full")
    }
    np.testing.assert_array_equal(logits["auto"], logits[0, 9000])
    assert np.abs(logits["auto"] - logits["full"]).max() > 1e-3


@pytest.mark.slow
def test_fit_stores_the_window_which_files_evaluation_and_export_use(collection, tmp_path):
    model = kerastl.build_classifier(
        "small_cnn", weights="none", class_names=collection.class_names, image_size_px=SIZE
    )
    train = kerastl.ImageDataset(collection.train, image_size_px=SIZE, seed=7, cache="memory")
    phase = kerastl.Phase("all", epochs=1, trainable="all")
    kerastl.fit(model, train, validation_data=collection.val, phases=[phase], verbose=False)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    stored = {"class_names": ("dark", "light"), "window": train.window, "resize": "stretch"}
    assert read_signature(loaded) == stored
    version = kerastl.export_model(loaded, tmp_path / "served")
    manifest = json.loads((version / "manifest.json").read_text())
    assert tuple(manifest["window"]) == train.window
    assert kerastl.evaluate(loaded, collection.test) == kerastl.evaluate(model, collection.test)
    with pytest.raises(RequestError, match="has the window full"):
        kerastl.evaluate(loaded, kerastl.ImageDataset(collection.test, image_size_px=SIZE, window="full"))
    for other in (("light", "dark"), ("Dark", "light")):
        with pytest.raises(RequestError, match=r"\['dark', 'light'\]"):
            kerastl.export_model(loaded, tmp_path / "other", class_names=other)


def test_fit_rejects_validation_images_with_a_window_if_training_images_have_the_full_range(collection):
    model = kerastl.build_classifier(
        "small_cnn", weights="none", class_names=collection.class_names, image_size_px=SIZE
    )
    train = kerastl.ImageDataset(collection.train, image_size_px=SIZE, window="full")
    val = kerastl.ImageDataset(collection.val, image_size_px=SIZE, window=(0, 4095))
    with pytest.raises(RequestError, match="validation_data: has the window"):
        kerastl.fit(model, train, validation_data=val, verbose=False)


def test_a_comparison_of_several_splits_requires_one(tmp_path):
    from kerastl.evaluation import Predictions, paired_difference

    def predictions(splits, names=("a", "b")):
        paths, groups = tuple(f"{row}.png" for row in range(4)), ("",) * 4
        logits = np.arange(8, dtype=np.float32).reshape(4, 2)
        return Predictions(paths, np.array([0, 1, 0, 1]), logits, names, splits, groups, groups)

    mixed = predictions(("val", "test", "test", "test"))
    with pytest.raises(RequestError, match=r"'test', 'val'"):
        paired_difference(mixed, mixed)
    assert paired_difference(mixed, mixed, split="test")["value"] == 0
    for other in (predictions(("test", "val", "test", "test")), predictions(mixed.splits, ("b", "a"))):
        with pytest.raises(RequestError, match="different"):
            paired_difference(mixed, other, split="test")
    with pytest.raises(RequestError, match="'train'"):
        paired_difference(mixed, mixed, split="train")


@given(
    low=st.integers(0, 30_000),
    width=st.integers(100, 35_000),
    train=st.lists(st.booleans(), min_size=6, max_size=6).filter(any),
)
@settings(max_examples=8, deadline=None)
def test_the_default_window_is_that_of_the_training_images_for_any_range(tmp_path_factory, low, width, train):
    folder = tmp_path_factory.mktemp("scans")
    records = []
    for number, is_train in enumerate(train):
        pixels = np.random.default_rng(number).integers(low, low + width, (SIZE, SIZE)).astype(np.uint16)
        Image.fromarray(pixels if is_train else pixels // 2).save(folder / f"{number}.png")
        split = "train" if is_train else "val"
        records.append(kerastl.data.Record(f"{number}.png", folder / f"{number}.png", "a", split))
    values = [np.asarray(Image.open(record.file)) for record in records if record.split == "train"]
    window = kerastl.ImageDataset(records, class_names=["a", "b"], image_size_px=SIZE).window
    assert window == pytest.approx(np.percentile(np.stack(values), [0.5, 99.5]), abs=1 + width / 100)

"""The model stores how its training images were resized: every later step uses the same rule, or is refused."""

import json

import keras
import numpy as np
import pytest
from PIL import Image

import kerastl
from kerastl.data import ArrayDataset, load_image
from kerastl.errors import Problems, RequestError
from kerastl.evaluation import predict
from kerastl.models import read_signature, write_signature

SIZE = (16, 24)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ten wide and tall images of each class."""
    root = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for channel, name in enumerate(("blue", "red")):
        (root / name).mkdir()
        for number in range(10):
            pixels = random.integers(0, 90, (*random.integers(12, 60, 2), 3))
            pixels[..., 2 * channel] += 120
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{number}.png")
    return root


@pytest.fixture
def padded_model():
    """A model as `fit` leaves it after training on padded images."""
    model = kerastl.build_classifier(
        "small_cnn", class_names=["blue", "red"], image_size_px=SIZE, weights=None
    )
    write_signature(model, resize="pad")
    return model


def test_images_resized_by_another_rule_are_refused(padded_model, folder, tmp_path):
    collection = kerastl.read_images(folder)
    stretched = kerastl.ImageDataset(collection, image_size_px=SIZE, shuffle=False)
    for call in (kerastl.evaluate, predict):
        with pytest.raises(
            RequestError,
            match=r"with 'stretch', but the training images were resized with 'pad'. Use resize='pad'",
        ):
            call(padded_model, stretched)
    padded = kerastl.ImageDataset(collection, image_size_px=SIZE, resize="pad", batch_size=5)
    phases = [kerastl.Phase("all", epochs=1, trainable="all", batch_norm="trainable")]
    with pytest.raises(RequestError, match="validation_data: is resized with 'stretch'"):
        kerastl.fit(padded_model, padded, validation_data=stretched, phases=phases)
    with pytest.raises(RequestError, match=r"trained with 'pad'. Remove resize="):
        kerastl.export_model(padded_model, tmp_path / "served", resize="crop")
    with pytest.raises(Problems, match="'stretch', 'pad' or 'crop', got 'letterbox'"):
        kerastl.export_model(padded_model, tmp_path / "served", resize="letterbox")
    with pytest.raises(Problems, match="resize: must be 'stretch', 'pad' or 'crop', got 'letterbox'"):
        kerastl.ImageDataset(collection, image_size_px=SIZE, resize="letterbox")
    assert not (tmp_path / "served").exists()


def test_the_rule_is_part_of_a_keras_file_and_of_the_fingerprint_of_cached_features(
    padded_model, folder, tmp_path
):
    padded_model.save(tmp_path / "model.keras")
    assert read_signature(keras.saving.load_model(tmp_path / "model.keras"))["resize"] == "pad"
    collection = kerastl.read_images(folder)
    prints = {
        kerastl.ImageDataset(collection, image_size_px=SIZE, resize=rule).fingerprint()
        for rule in ("stretch", "pad", "crop")
    }
    assert len(prints) == 3


def test_arrays_have_no_rule(padded_model):
    pixels = np.full((4, *SIZE, 3), 99, np.uint8)
    dataset = ArrayDataset(pixels, [0, 1, 0, 1], class_names=["blue", "red"])
    assert dataset.resize is None
    with pytest.raises(RequestError, match=r"resize: has no effect, .* Remove resize="):
        ArrayDataset(pixels, [0, 1, 0, 1], class_names=["blue", "red"], resize="pad")
    assert np.isfinite(predict(padded_model, dataset).logits).all()


@pytest.mark.slow
def test_fit_stores_the_rule_that_evaluate_and_export_use(folder, tmp_path):
    collection = kerastl.read_images(folder)
    model = kerastl.build_classifier(
        "small_cnn", class_names=collection.class_names, image_size_px=SIZE, weights=None
    )
    train = kerastl.ImageDataset(collection, image_size_px=SIZE, resize="pad", batch_size=5, seed=1)
    phases = [kerastl.Phase("all", epochs=1, trainable="all", batch_norm="trainable")]
    kerastl.fit(model, train, validation_data=collection, phases=phases, verbose=False)
    predicted = predict(model, collection)
    files = [record.file.read_bytes() for record in collection.records]
    images = np.stack([load_image(file, image_size_px=SIZE, resize="pad") for file in files])
    np.testing.assert_allclose(predicted.logits, model(images, training=False), atol=1e-4)
    export = kerastl.export_model(model, tmp_path / "served")
    assert json.loads((export / "manifest.json").read_text())["resize"] == "pad"
    assert "in the center, on black" in (export / "MODEL_CARD.md").read_text()

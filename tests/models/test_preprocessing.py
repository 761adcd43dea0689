"""Preprocessing in a user's model file is adopted, so that features are equal, or the file is refused."""

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers

from kerastl.errors import RequestError
from kerastl.models import build_source, load_backbone

SIZE = 16
IMAGES = np.random.default_rng(0).uniform(0, 255, (2, SIZE, SIZE, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def network():
    """The network that a user has trained: random weights and statistics, no preprocessing."""
    model = build_source("small_cnn", image_size_px=SIZE, seed=1)
    generator = np.random.default_rng(1)
    for variable in model.weights:
        if "kernel" not in variable.path:
            variable.assign(generator.uniform(0.5, 1.5, variable.shape))
    return model


def classifier(network, *preprocessing, functional=False):
    """Return a classifier with the network nested in it, and the features of images."""
    steps = [*preprocessing, network, layers.GlobalAveragePooling2D(), layers.Dense(3)]
    outputs = inputs = keras.Input((SIZE, SIZE, 3))
    for step in steps:
        outputs = step(outputs)
    model = keras.Model(inputs, outputs) if functional else keras.Sequential([inputs, *steps])

    def features(images):
        for step in preprocessing:
            images = step(images) if not step.name.startswith("random") else images
        return np.asarray(network(images, training=False))

    return model, features


def adapted():
    layer = layers.Normalization()
    layer.adapt(IMAGES)
    return layer


def load(path):
    return load_backbone("small_cnn", weights=path, image_size_px=SIZE)


def assert_equal_features(path, features):
    expected = features(IMAGES)
    found = np.asarray(load(path).model(IMAGES, training=False))
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


VARIANTS = {
    "zero to one": lambda: [layers.Rescaling(1 / 255)],
    "published": lambda: [layers.Rescaling(1 / 127.5, offset=-1)],
    "per channel": lambda: [layers.Rescaling(np.array([0.1, 0.2, 0.3]), offset=np.array([1.0, 2.0, 3.0]))],
    "constants": lambda: [layers.Normalization(mean=[120.0, 110.0, 100.0], variance=[900.0, 1600.0, 2500.0])],
    "adapted": lambda: [adapted()],
    "two steps": lambda: [
        layers.Rescaling(1 / 255),
        layers.Normalization(mean=[0.5] * 3, variance=[0.04] * 3),
    ],
    "augmented": lambda: [layers.RandomFlip(), layers.Rescaling(1 / 255)],
}


@pytest.mark.parametrize("kind", [".keras", ".h5"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_features_are_those_of_the_saved_model(network, tmp_path, variant, kind):
    model, features = classifier(network, *VARIANTS[variant](), functional=variant == "two steps")
    model.save(tmp_path / f"user{kind}")
    assert_equal_features(tmp_path / f"user{kind}", features)


@pytest.mark.parametrize("is_frozen", [slice(None), slice(4)])
def test_nested_h5_of_a_partly_frozen_network_is_loaded(network, tmp_path, is_frozen):
    """Keras stores the arrays of a nested model with the trainable ones first."""
    for layer in network.layers[is_frozen]:
        layer.trainable = False
    try:
        model, features = classifier(network, layers.Rescaling(1 / 255))
        model.save(tmp_path / "user.h5")
    finally:
        network.trainable = True
    assert_equal_features(tmp_path / "user.h5", features)


@given(
    scale=st.floats(0.001, 2),
    offset=st.floats(-2, 2),
    means=st.lists(st.floats(-50, 200), min_size=3, max_size=3),
    variances=st.lists(st.floats(0.1, 5000), min_size=3, max_size=3),
    is_rescaled_first=st.booleans(),
)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_chain_of_rescaling_and_normalization_is_adopted(
    network, tmp_path, scale, offset, means, variances, is_rescaled_first
):
    steps = [layers.Rescaling(scale, offset), layers.Normalization(mean=means, variance=variances)]
    model, features = classifier(network, *(steps if is_rescaled_first else reversed(steps)))
    model.save(tmp_path / "user.keras")
    assert_equal_features(tmp_path / "user.keras", features)


class Halved(layers.Layer):
    def call(self, images):
        return images / 2


@pytest.mark.parametrize("kind", [".keras", ".h5"])
@pytest.mark.parametrize(
    ("preprocessing", "message"),
    [
        ([], "without preprocessing"),
        ([layers.RandomFlip()], "without preprocessing"),
        ([layers.Lambda(lambda images: images / 255)], "Lambda"),
        ([Halved()], "Halved"),
        ([layers.Normalization(mean=0.0, variance=1.0, invert=True)], "Normalization"),
    ],
    ids=str,
)
def test_unsupported_preprocessing_is_rejected_with_a_remedy(network, tmp_path, preprocessing, message, kind):
    model, _ = classifier(network, *preprocessing)
    model.save(tmp_path / f"user{kind}")
    with pytest.raises(RequestError, match=rf"(?s){message}.*save_weights"):
        load(tmp_path / f"user{kind}")


def test_weights_of_a_nested_network_are_loaded_with_a_note(network, tmp_path):
    model, _ = classifier(network, layers.Rescaling(1 / 255))
    model.save_weights(tmp_path / "user.weights.h5")
    loaded = load(tmp_path / "user.weights.h5")
    assert "stores no preprocessing" in loaded.notes[0]
    np.testing.assert_allclose(
        np.asarray(loaded.model(IMAGES, training=False)),
        np.asarray(network(IMAGES / 127.5 - 1, training=False)),
        rtol=1e-4, atol=1e-4,
    )  # fmt: skip


def test_weights_behind_an_adapted_normalization_are_refused(network, tmp_path):
    model, _ = classifier(network, adapted())
    model.save_weights(tmp_path / "user.weights.h5")
    with pytest.raises(RequestError, match="different preprocessing"):
        load(tmp_path / "user.weights.h5")


@pytest.mark.slow
def test_reversed_channels_cannot_be_adopted(tmp_path):
    network = build_source("vgg16", image_size_px=32)
    model = keras.Sequential([keras.Input((32, 32, 3)), layers.Rescaling(1 / 255), network])
    model.save(tmp_path / "user.keras")
    with pytest.raises(RequestError, match="different preprocessing than vgg16"):
        load_backbone("vgg16", weights=tmp_path / "user.keras", image_size_px=32)

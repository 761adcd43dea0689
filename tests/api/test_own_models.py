"""`fit`, `evaluate` and `export_model` with models that `build_classifier` did not build."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from dark_and_light import write_dark_and_light
from keras import layers

import kerastl
from kerastl.errors import RequestError

SIZE = 32


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """Sixteen dark and sixteen light images."""
    folder = write_dark_and_light(tmp_path_factory.mktemp("photos"), 16)
    return kerastl.read_images(folder).split(val_fraction=0.25, test_fraction=0.25, seed=7)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="own")
        self.logit = layers.Dense(1, name="logit", bias_initializer=keras.initializers.Constant(0.01))
        self.conv = layers.Conv2D(4, 3, name="conv", bias_initializer=keras.initializers.Constant(0.1))

    def call(self, images):
        return self.logit(keras.ops.mean(keras.ops.relu(self.conv(images / 255.0)), axis=(1, 2)))


@pytest.mark.slow
def test_a_subclassed_model_with_a_single_logit_is_trained_evaluated_and_exported(collection, tmp_path):
    model = Subclassed()
    train = kerastl.ImageDataset(collection.train, image_size_px=SIZE, batch_size=4, seed=7)
    phases = [kerastl.Phase("all", epochs=4, learning_rate=0.03, trainable="all")]
    kerastl.fit(model, train, validation_data=collection.val, phases=phases)
    scores = kerastl.evaluate(model, collection.test, resamples=100)
    assert scores["test"]["overall"]["auc"]["value"] == 1.0
    version = kerastl.export_model(model, tmp_path / "served")
    file = collection.test.records[0].file
    served = tf.saved_model.load(str(version)).signatures["serving_default"](tf.constant([file.read_bytes()]))
    assert json.loads((version / "manifest.json").read_text())["class_names"] == ["dark", "light"]
    dataset = kerastl.ImageDataset(collection.test, image_size_px=SIZE, shuffle=False)
    images, _ = next(iter(dataset.batches(0)))
    expected = 1 / (1 + np.exp(-model(images).numpy()[0, 0]))
    np.testing.assert_allclose(served["probabilities"].numpy()[0], [1 - expected, expected], atol=1e-6)


@pytest.mark.slow
def test_cached_features_of_a_nested_backbone_train_the_same_head(collection):
    def trained(cache):
        keras.utils.set_random_seed(1)
        inner = keras.Input((None, None, 3))
        backbone = keras.Model(
            inner, layers.BatchNormalization()(layers.Conv2D(4, 3)(inner)), name="backbone"
        )
        backbone.layers[-1].moving_mean.assign([0.1, 0.2, 0.3, 0.4])
        image = keras.Input((SIZE, SIZE, 3))
        pooled = layers.GlobalAveragePooling2D()(backbone(layers.Rescaling(1 / 255)(image)))
        model = keras.Model(image, layers.Dense(2)(pooled))
        train = kerastl.ImageDataset(collection.train, image_size_px=SIZE, seed=7)
        history = kerastl.fit(
            model, train, phases=[kerastl.Phase("head", epochs=2, cache=cache)], verbose=False
        )
        return model, history.freeze_reports[0].get("cache", {}).get("kind")

    cached, kind = trained("auto")
    uncached, _ = trained("none")
    assert kind == "features"
    for first, second in zip(cached.weights, uncached.weights, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-6)


def test_a_frozen_layer_with_initial_weights_is_refused_until_it_is_trained(collection):
    image = keras.Input((SIZE, SIZE, 3))
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, bias_initializer="ones")(image))
    model = keras.Model(image, layers.Dense(2)(layers.Dense(8, name="hidden")(pooled)))
    with pytest.raises(RequestError, match=r"phases\[0\].*hidden\. Use trainable=\{'names': 'hidden'\}"):
        kerastl.fit(
            model, collection.train, phases=[kerastl.Phase("a", 1), kerastl.Phase("b", 1, trainable="all")]
        )
    phases = [kerastl.Phase("a", 1, trainable={"names": "hidden"}), kerastl.Phase("b", 1)]
    assert len(kerastl.fit(model, collection.train, phases=phases, verbose=False).rows) == 2


def test_a_model_that_ends_with_a_sum_keeps_the_class_names_in_this_process(collection):
    image = keras.Input((SIZE, SIZE, 3))
    pooled = layers.GlobalAveragePooling2D()(image / 255.0)
    model = keras.Model(image, layers.Dense(2)(pooled) + layers.Dense(2)(pooled))
    kerastl.fit(model, collection.train, phases=[kerastl.Phase("a", 1, trainable="all")], verbose=False)
    assert kerastl.models.read_signature(model)["class_names"] == ("dark", "light")

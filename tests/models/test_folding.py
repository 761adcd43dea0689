"""Folding of BatchNorm layers. All families are folded in test_every_family_trains."""

import keras
import numpy as np
import pytest
from backbone_families import calibrated, crops, folding_error

from kerastl.models import build_backbone, find_foldable, fold_batch_norm, fold_for_inference


@pytest.mark.parametrize(
    ("name", "options", "size"),
    [
        ("mobilenet", {"alpha": 0.25}, 128),
        pytest.param("mobilenet_v2", {"alpha": 0.35}, 224, marks=pytest.mark.slow),
        pytest.param("mobilenet_v2", {"alpha": 1.0}, 224, marks=pytest.mark.slow),
    ],
)
def test_folding_imagenet_weights_changes_less_than_a_hundred_thousandth(keras_home, name, options, size):
    model = build_backbone(name, weights="imagenet", image_size_px=size, **options)
    images = crops(size, 8)
    assert folding_error(model(images, training=False), fold_batch_norm(model), images) < 1e-5


def test_batch_norm_is_not_folded_if_its_input_has_other_readers_or_an_activation():
    image = keras.Input((8, 8, 3))
    read_twice = keras.layers.Conv2D(4, 3, padding="same", name="read_twice")(image)
    first = keras.layers.BatchNormalization(name="first")(read_twice)
    active = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="active")(first)
    second = keras.layers.BatchNormalization(name="second")(active)
    depthwise = keras.layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=True, name="depthwise")(second)
    third = keras.layers.BatchNormalization(name="third", scale=False)(depthwise)
    dense = keras.layers.Dense(5, name="dense")(third)
    fourth = keras.layers.BatchNormalization(name="fourth", center=False)(dense)
    branch = keras.layers.GlobalAveragePooling2D()(read_twice)
    model = keras.Model(image, [fourth, branch])
    assert find_foldable(model) == {"third": "depthwise", "fourth": "dense"}
    generator = np.random.default_rng(1)
    for weight in model.weights:
        low = 0.5 if "variance" in weight.path else -1.0
        weight.assign(generator.uniform(low, 1.5, weight.shape))
    images = generator.normal(size=(3, 8, 8, 3)).astype("float32")
    for expected, output in zip(model(images, training=False), fold_batch_norm(model)(images), strict=True):
        np.testing.assert_allclose(output, expected, rtol=2e-5, atol=2e-5)


def test_later_changes_of_the_plain_network_do_not_reach_the_folded_one():
    model, images, _ = calibrated("small_cnn", 32)
    folded = fold_batch_norm(model)
    before = keras.ops.convert_to_numpy(folded(images))
    for weight in model.weights:
        weight.assign(weight * 0.5)
    np.testing.assert_array_equal(before, keras.ops.convert_to_numpy(folded(images)))


class CustomLayer(keras.layers.Layer):
    def call(self, inputs):
        return inputs * 2.0


class CustomOptimizer(keras.optimizers.SGD):
    """An optimizer that is not registered, so that Keras cannot copy it."""


def read_by_two_norms():
    """Return a model that calls a convolution twice, with a BatchNorm after the first call."""
    image = keras.Input((8, 8, 3))
    convolution = keras.layers.Conv2D(3, 3, padding="same")
    first = keras.layers.BatchNormalization()(convolution(image))
    return keras.Model(image, convolution(first))


def nested():
    image = keras.Input((16, 16, 3))
    return keras.Model(image, build_backbone("small_cnn", weights="none", image_size_px=16)(image))


def with_custom_layer():
    image = keras.Input((8, 8, 3))
    norm = keras.layers.BatchNormalization()(keras.layers.Conv2D(3, 3)(image))
    return keras.Model(image, CustomLayer()(norm))


@pytest.mark.parametrize(
    "build", [read_by_two_norms, nested, with_custom_layer, lambda: keras.Sequential([keras.Input((4,))])]
)
def test_models_that_folding_could_change_are_returned_unchanged(build):
    model = build()
    assert fold_for_inference(model) is model


def test_foldable_model_is_folded_for_inference():
    image = keras.Input((8, 8, 3))
    norm = keras.layers.BatchNormalization()(keras.layers.Conv2D(3, 3)(image))
    model = keras.Model(image, keras.layers.ReLU()(norm))
    images = np.random.default_rng(1).normal(size=(3, 8, 8, 3)).astype("float32")
    model.compile(CustomOptimizer(), loss=None)
    folded = fold_for_inference(model)
    assert len(folded.layers) == len(model.layers) - 1
    np.testing.assert_array_equal(folded(images), fold_batch_norm(model)(images))

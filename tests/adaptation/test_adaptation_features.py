"""Features and logits of each kind of model that the training loop uses."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from make_domains import batch, make_phase, small_model

from kerastl import adaptation
from kerastl.adaptation import features_and_logits, logits_of_frozen_head
from kerastl.errors import RequestError
from kerastl.recipe import FromBlock
from kerastl.training import unfreeze
from kerastl.training.trunk import with_fast_backward, with_folded_trunk

FROM_BLOCK_3 = make_phase("last", 1, trainable=FromBlock(from_block="block_3"))
HEAD_ALONE = make_phase("head", 1)
ALL = make_phase("all", 1, trainable="all")
IMAGES = batch(4)[0]


@pytest.fixture
def model():
    return small_model(dropout=0.5)


def reference(model):
    features = keras.Model(model.inputs, model.get_layer("pooled").output)(IMAGES, training=False)
    head = model.get_layer("head")
    return features, features @ head.kernel + head.bias


@pytest.mark.parametrize("phase", [ALL, FROM_BLOCK_3, HEAD_ALONE], ids=lambda phase: phase.name)
def test_flat_and_folded_models_agree(model, phase):
    unfreeze(model, phase.trainable)
    for classifier in (model, with_folded_trunk(model, phase)):
        features, logits = features_and_logits(classifier, IMAGES, training=False)
        expected_features, expected_logits = reference(model)
        np.testing.assert_allclose(features, expected_features, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(logits, expected_logits, rtol=1e-4, atol=1e-5)


def test_tail_after_a_feature_cache_agrees(model):
    pooled = model.get_layer("pooled").output
    tail = with_fast_backward(keras.Model(pooled, model.outputs[0], name="tail"))
    expected_features, expected_logits = reference(model)
    features, logits = features_and_logits(tail, expected_features, training=False)
    np.testing.assert_array_equal(features, expected_features)
    np.testing.assert_allclose(logits, expected_logits, rtol=1e-5, atol=1e-6)


def test_tail_after_a_boundary_cache_agrees(model):
    edge = model.get_layer("block_2_relu").output
    trunk = keras.Model(model.inputs, edge)
    tail = keras.Model(edge, model.outputs[0])
    features, logits = features_and_logits(tail, trunk(IMAGES), training=False)
    expected_features, expected_logits = reference(model)
    np.testing.assert_allclose(features, expected_features, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits, expected_logits, rtol=1e-4, atol=1e-5)


def test_features_include_dropout_in_training(model):
    unfreeze(model, "none")
    features, logits = features_and_logits(model, IMAGES, training=True)
    head = model.get_layer("head")
    assert (features.numpy() == 0).mean() > 0.3
    np.testing.assert_allclose(logits, features @ head.kernel + head.bias, rtol=1e-4, atol=1e-5)


def test_gradients_reach_the_variables_of_the_model_in_a_traced_function(model):
    unfreeze(model, "all")
    folded = with_folded_trunk(model, FROM_BLOCK_3)
    variable = model.get_layer("block_3_conv").kernel

    @tf.function
    def gradient(images):
        with tf.GradientTape() as tape:
            features, _ = features_and_logits(folded, images, training=True)
            loss = tf.reduce_sum(features**2)
        return tape.gradient(loss, variable.value)

    assert np.any(gradient(IMAGES))


def test_frozen_head_has_equal_logits_and_zero_gradients(model):
    unfreeze(model, "all")
    weights = [weight.value for weight in model.get_layer("head").weights]
    kernel = model.get_layer("block_1_conv").kernel.value
    with tf.GradientTape(persistent=True) as tape:
        logits = logits_of_frozen_head(model, IMAGES, training=False)
        loss = tf.reduce_sum(logits**2)
    np.testing.assert_allclose(logits, reference(model)[1], rtol=1e-4, atol=1e-5)
    for gradient in tape.gradient(loss, weights):
        np.testing.assert_array_equal(gradient, np.zeros(gradient.shape))
    assert np.any(tape.gradient(loss, kernel))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.flat, self.top = keras.layers.Flatten(), keras.layers.Dense(2, name="head")

    def call(self, images):
        return self.top(self.flat(images))


def sequential(*layers):
    return keras.Sequential([keras.Input((8, 8, 3)), *layers])


@pytest.mark.parametrize(
    "build",
    [
        lambda: sequential(keras.layers.Flatten(), keras.layers.Dense(2)),
        lambda: sequential(keras.layers.Flatten(), keras.layers.Dense(2, name="head"), keras.layers.Dense(2)),
        lambda: sequential(
            keras.layers.Flatten(), keras.layers.Dense(2, name="head"), keras.layers.Activation("relu")
        ),
        lambda: sequential(keras.layers.Conv2D(2, 8, name="head"), keras.layers.Flatten()),
        lambda: sequential(sequential(keras.layers.Flatten(), keras.layers.Dense(2, name="head"))),
        Subclassed,
        lambda: "model.keras",
    ],
    ids=["no_head", "head_inside", "activation", "convolution", "nested", "subclassed", "path"],
)
def test_a_method_refuses_a_model_that_does_not_end_in_a_head(build):
    message = r"^coral: needs a model from build_classifier, but .* does not end in a Dense layer named 'head'\. Build"
    with pytest.raises(RequestError, match=message):
        adaptation.step_for("coral", build())

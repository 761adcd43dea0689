"""What the head reads and answers, of each kind of model that the loop trains."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from domains_drawn import batch, plain_phase, small_model

from kerastl.adaptation import features_and_logits, logits_of_frozen_head
from kerastl.recipe import FromBlock
from kerastl.training import unfreeze
from kerastl.training.trunk import with_fast_backward, with_folded_trunk

FROM_BLOCK_3 = plain_phase("last", 1, trainable=FromBlock(from_block="block_3"))
HEAD_ALONE = plain_phase("head", 1)
ALL = plain_phase("all", 1, trainable="all")
IMAGES = batch(4)[0]


@pytest.fixture
def model():
    return small_model(dropout=0.5)


def by_hand(model):
    read = keras.Model(model.inputs, model.get_layer("pooled").output)(IMAGES, training=False)
    head = model.get_layer("head")
    return read, read @ head.kernel + head.bias


@pytest.mark.parametrize("phase", [ALL, FROM_BLOCK_3, HEAD_ALONE], ids=lambda phase: phase.name)
def test_a_flat_and_a_shortened_model_give_the_same(model, phase):
    unfreeze(model, phase.trainable)
    for one in (model, with_folded_trunk(model, phase)):
        features, logits = features_and_logits(one, IMAGES, training=False)
        read, answers = by_hand(model)
        np.testing.assert_allclose(features, read, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(logits, answers, rtol=1e-4, atol=1e-5)


def test_the_tail_behind_a_cache_of_features_gives_the_same(model):
    pooled = model.get_layer("pooled").output
    tail = with_fast_backward(keras.Model(pooled, model.outputs[0], name="tail"))
    read, answers = by_hand(model)
    features, logits = features_and_logits(tail, read, training=False)
    np.testing.assert_array_equal(features, read)
    np.testing.assert_allclose(logits, answers, rtol=1e-5, atol=1e-6)


def test_the_tail_behind_a_cache_of_a_boundary_gives_the_same(model):
    edge = model.get_layer("block_2_relu").output
    front = keras.Model(model.inputs, edge)
    tail = keras.Model(edge, model.outputs[0])
    features, logits = features_and_logits(tail, front(IMAGES), training=False)
    read, answers = by_hand(model)
    np.testing.assert_allclose(features, read, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits, answers, rtol=1e-4, atol=1e-5)


def test_in_training_the_features_are_those_that_dropout_left(model):
    unfreeze(model, "none")
    features, logits = features_and_logits(model, IMAGES, training=True)
    head = model.get_layer("head")
    assert (features.numpy() == 0).mean() > 0.3
    np.testing.assert_allclose(logits, features @ head.kernel + head.bias, rtol=1e-4, atol=1e-5)


def test_it_is_traced_without_new_variables_and_learns_by_the_models_own(model):
    unfreeze(model, "all")
    short = with_folded_trunk(model, FROM_BLOCK_3)
    variable = model.get_layer("block_3_conv").kernel

    @tf.function
    def gradient(images):
        with tf.GradientTape() as tape:
            features, _ = features_and_logits(short, images, training=True)
            loss = tf.reduce_sum(features**2)
        return tape.gradient(loss, variable.value)

    assert np.any(gradient(IMAGES))


def test_a_frozen_head_answers_alike_and_gets_a_gradient_of_zero(model):
    unfreeze(model, "all")
    weights = [one.value for one in model.get_layer("head").weights]
    before = model.get_layer("block_1_conv").kernel.value
    with tf.GradientTape(persistent=True) as tape:
        logits = logits_of_frozen_head(model, IMAGES, training=False)
        loss = tf.reduce_sum(logits**2)
    np.testing.assert_allclose(logits, by_hand(model)[1], rtol=1e-4, atol=1e-5)
    for gradient in tape.gradient(loss, weights):
        np.testing.assert_array_equal(gradient, np.zeros(gradient.shape))
    assert np.any(tape.gradient(loss, before))

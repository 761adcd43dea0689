"""The fast backward pass has the same outputs and gradients as the original model."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from array_dataset import plain_phase

from kerastl.models import build_backbone, build_model
from kerastl.recipe import TopFraction
from kerastl.training import batch_norm_layers, unfreeze
from kerastl.training.trunk import with_fast_backward, with_folded_trunk

LAYERS = {
    "pointwise": lambda: keras.layers.Conv2D(6, 1, use_bias=False),
    "with a bias": lambda: keras.layers.Conv2D(6, 1),
    "with a stride": lambda: keras.layers.Conv2D(6, 1, strides=2, padding="same"),
    "active": lambda: keras.layers.Conv2D(6, 1, activation="swish"),
    "square": lambda: keras.layers.Conv2D(6, 3, padding="same"),
    "oblong": lambda: keras.layers.Conv2D(6, (1, 5), padding="same", use_bias=False),
    "square with a stride": lambda: keras.layers.Conv2D(6, 3, strides=2, padding="same"),
    "dilated": lambda: keras.layers.Conv2D(6, 3, dilation_rate=2, padding="same"),
    "in groups": lambda: keras.layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same"),
    "separable": lambda: keras.layers.SeparableConv2D(6, 3, padding="same", strides=2),
}


def random_array(shape, seed=0, low=-1.0, high=1.0):
    return np.random.default_rng(seed).uniform(low, high, shape).astype("float32")


def answers_and_gradients(model, variables, images):
    with tf.GradientTape() as tape:
        answers = model(images, training=True)
        loss = tf.reduce_sum(answers * random_array(answers.shape, 5))
    return [answers, *tape.gradient(loss, [variable.value for variable in variables])]


def assert_same(model, images):
    cheap = with_fast_backward(model)
    assert cheap is not model
    variables = model.trainable_variables
    assert {id(variable) for variable in cheap.trainable_variables} == {
        id(variable) for variable in variables
    }
    plain = answers_and_gradients(model, variables, images)
    # The gradient of a bias before a trainable BatchNorm is 0 except for rounding errors.
    rounding = 1e-6 * max(np.abs(values).max() for values in plain)
    for expected, received in zip(plain, answers_and_gradients(cheap, variables, images), strict=True):
        largest = np.abs(expected).max()
        assert largest > 0
        np.testing.assert_allclose(expected, received, rtol=1e-4, atol=max(1e-5 * largest, rounding))


# Without a frozen BatchNorm to fold, a strided square, a dilated and a grouped convolution stay as they are.
TRAINED = [kind for kind in LAYERS if kind not in ("square with a stride", "dilated", "in groups")]
CASES = [
    *((kind, True) for kind in LAYERS),
    *(
        pytest.param(kind, False, marks=() if kind in ("pointwise", "square") else pytest.mark.slow)
        for kind in TRAINED
    ),
]


@pytest.mark.parametrize(("kind", "frozen"), CASES)
def test_fast_convolutions_have_equal_outputs_and_gradients(kind, frozen):
    keras.utils.set_random_seed(2)
    image = keras.Input((9, 8, 4))
    first = keras.layers.Conv2D(4, 3, name="first", strides=2)(image)
    norm = keras.layers.BatchNormalization(name="norm")
    last = keras.layers.Dense(2)
    model = keras.Model(image, last(keras.layers.ReLU()(norm(LAYERS[kind]()(first)))))
    for at, weight in enumerate(norm.weights):
        weight.assign(random_array(weight.shape, at, 0.5, 1.5))
    norm.trainable = not frozen
    assert_same(model, random_array((3, 9, 8, 4)))


def test_norm_is_not_folded_if_the_convolution_has_another_consumer():
    image = keras.Input((6, 6, 3))
    read_twice = keras.layers.Conv2D(4, 1)(image)
    norm = keras.layers.BatchNormalization()
    model = keras.Model(image, keras.layers.Add()([norm(read_twice), read_twice]))
    norm.moving_mean.assign([1.0, 2.0, 3.0, 4.0])
    norm.trainable = False
    assert_same(model, random_array((2, 6, 6, 3)))


def test_network_without_convolutions_is_returned_unchanged():
    image = keras.Input((4,))
    model = keras.Model(image, keras.layers.Dense(2)(image))
    assert with_fast_backward(model) is model


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("small_cnn", "frozen"),
        pytest.param("mobilenet_v2", "frozen", marks=pytest.mark.slow),
        pytest.param("mobilenet_v2", "trainable", marks=pytest.mark.slow),
    ],
)
def test_fast_backward_gives_equal_training_steps(name, rule):
    def trained(way):
        keras.utils.clear_session()
        options = {"alpha": 0.35} if name == "mobilenet_v2" else {}
        backbone = build_backbone(name, weights="none", image_size_px=32, seed=1, **options)
        model = build_model(backbone, class_names=("a", "b"), dropout=0.3, seed=1)
        # BatchNorm gets the statistics of the images. Otherwise activations vanish with random weights.
        # Offsets far from 0: at the kink of a ReLU, rounding errors decide the gradient.
        for at, norm in enumerate(batch_norm_layers(model)):
            norm.momentum = 0.0
            norm.beta.assign(random_array(norm.beta.shape, at, 0.5, 1.5))
        images = random_array((8, 32, 32, 3), 1, 0.0, 255.0)
        model(images, training=True)
        phase = plain_phase("last", 1, trainable=TopFraction(top_fraction=0.3), batch_norm=rule)
        unfreeze(model, phase.trainable, batch_norm=rule)
        before, written = model.get_weights(), model.to_json()
        learner, optimizer = way(model, phase), keras.optimizers.SGD(1e-3)
        variables = model.trainable_variables

        @tf.function
        def step():
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(learner(images, training=True)[:, 0])
            gradients = tape.gradient(loss, [variable.value for variable in variables])
            optimizer.apply_gradients(zip(gradients, variables, strict=True))

        for _ in range(4):
            step()
        assert model.to_json() == written
        return [weight - initial for weight, initial in zip(model.get_weights(), before, strict=True)]

    plain, cheap = trained(lambda model, _: model), trained(with_folded_trunk)
    way, other = (
        np.concatenate([difference.ravel() for difference in differences]) for differences in (plain, cheap)
    )
    assert np.linalg.norm(other - way) < 0.01 * np.linalg.norm(way)
    assert sum(np.abs(difference).max() > 0 for difference in plain) > (2 if name == "small_cnn" else 10)

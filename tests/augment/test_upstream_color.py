"""Faults of keras-cv 0.9.0 in color, levels and sharpness. A test fails once a release fixes its fault."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras_cv import layers

pytestmark = pytest.mark.slow
"""keras-cv is pinned, so the default lane does not need them."""

WHITE = np.full((1, 8, 8, 3), 255.0, np.float32)


def dot(size=9):
    image = np.zeros((1, size, size, 1), np.float32)
    image[0, size // 2, size // 2] = 255
    return image


def test_the_sharpness_of_keras_cv_softens():
    """According to its documentation, a factor of 1.0 returns the sharpened image."""
    softened = layers.RandomSharpness((1.0, 1.0), value_range=(0, 255))(dot()).numpy()
    assert softened.max() == pytest.approx(255 * 5 / 13, rel=1e-5)


def test_the_blur_of_keras_cv_darkens_the_borders():
    blurred = layers.RandomGaussianBlur(5, (1.0, 1.0))(WHITE).numpy()
    assert blurred[0, 4, 4, 0] == pytest.approx(255, rel=1e-5)
    assert blurred[0, 0, 0, 0] < 130


def test_the_blur_of_keras_cv_with_an_even_kernel_moves_the_image():
    blurred = layers.RandomGaussianBlur(4, (1.0, 1.0))(dot()).numpy()[0, ..., 0]
    middle = np.average(np.arange(9), weights=blurred.sum(axis=0))
    assert abs(middle - 4) > 0.1


def test_the_blur_of_keras_cv_is_as_wide_as_its_kernel_whatever_the_factor():
    blurred = layers.RandomGaussianBlur(5, (50.0, 50.0))(dot(31)).numpy()[0, ..., 0]
    assert (blurred > 0).sum() == 25


def test_the_solarization_of_keras_cv_inverts_everything_unless_it_is_given_a_threshold():
    gray = np.full((1, 4, 4, 3), 40.0, np.float32)
    assert (layers.Solarization(value_range=(0, 255))(gray).numpy() == 215).all()


def test_the_solarization_of_keras_cv_draws_one_number_twice_in_a_graph():
    layer = layers.Solarization((0, 255), (0, 100), (0, 100), seed=3)
    params = tf.function(lambda: layer.get_random_transformation_batch(50))()
    np.testing.assert_array_equal(params["additions"], params["thresholds"])


def test_the_channel_shift_of_keras_cv_shifts_all_channels_equally_in_a_graph_except_for_the_sign():
    layer = layers.RandomChannelShift((0, 255), 0.5, seed=3)
    sample = tf.function(lambda: layer.get_random_transformation())
    for _ in range(5):
        assert len({abs(float(shift)) for shift in sample()}) == 1


def test_the_channel_shift_of_keras_cv_reaches_half_of_the_range_at_its_full_strength():
    layer = layers.RandomChannelShift((0, 255), (1.0, 1.0))
    assert {abs(float(shift)) for shift in layer.get_random_transformation()} == {0.5}


@pytest.mark.parametrize("channels", [1, 4])
def test_the_channel_shift_of_keras_cv_requires_the_number_of_channels(channels):
    """It fails on one channel and silently drops the fourth."""
    layer = layers.RandomChannelShift((0, 255), 0.5)
    image = tf.fill([4, 4, channels], 100.0)
    shifts = layer.get_random_transformation()
    if channels == 1:
        with pytest.raises(IndexError):
            layer.augment_image(image, transformation=shifts)
    else:
        assert layer.augment_image(image, transformation=shifts).shape[-1] == 3


def test_the_posterization_of_keras_cv_rounds_down_with_all_8_bits_and_draws_nothing():
    layer = layers.Posterization(value_range=(0, 255), bits=8)
    assert (layer(np.full((1, 4, 4, 3), 99.75, np.float32)).numpy() == 99).all()
    assert not hasattr(layer, "get_random_transformation_batch")


@pytest.mark.parametrize(
    "layer", [layers.Grayscale(output_channels=3), layers.RandomColorDegeneration((1.0, 1.0))]
)
def test_the_gray_of_keras_cv_is_darker_than_the_image(layer):
    assert np.asarray(layer(WHITE)).max() == pytest.approx(255 * 0.9999, abs=1e-3)


def test_the_grayscale_of_keras_cv_changes_the_number_of_channels_by_default():
    assert layers.Grayscale()(WHITE).shape[-1] == 1


def test_the_channel_shuffle_of_keras_cv_mixes_groups_even_if_their_order_is_kept():
    images = tf.reshape(tf.range(6.0), [1, 1, 1, 6])
    same_order = tf.constant([[0, 1, 2]])
    shuffled = layers.ChannelShuffle(groups=3).augment_images(images, same_order)
    assert shuffled.numpy().ravel().tolist() == [0, 2, 4, 1, 3, 5]


def test_the_jitter_of_keras_cv_draws_while_it_changes_images_and_not_by_its_seed():
    """Equal transformations, and even equal seeds, give other images."""
    image = tf.constant(np.random.default_rng(0).uniform(0, 255, (1, 8, 8, 3)), tf.float32)
    images = set()
    for _ in range(3):
        layer = layers.RandomColorJitter((0, 255), (-0.5, 0.5), 0.5, (0.3, 0.7), 0.5, seed=3)
        transformations = layer.get_random_transformation_batch(1)
        assert not transformations.numpy().any()
        images.add(layer.augment_images(image, transformations=transformations).numpy().tobytes())
    assert len(images) > 1


def test_the_jitter_of_keras_cv_ignores_its_dtype():
    """With a global mixed precision policy, its four layers ignore its `dtype`."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        layer = layers.RandomColorJitter((0, 255), 0, 0, (0.5, 0.5), 0, dtype="float32")
    finally:
        keras.config.set_dtype_policy(before)
    assert layer.compute_dtype == "float32"
    assert layer.random_hue.compute_dtype == "float16"
    images = np.random.default_rng(0).uniform(100, 101, (1, 8, 8, 3)).astype(np.float32)
    assert np.abs(layer(images).numpy() - images).max() > 0.03

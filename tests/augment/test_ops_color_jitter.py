"""Color jitter: truths from colorsys and NumPy, and the four layers of keras-cv."""

import colorsys
import itertools

import numpy as np
import pytest
import tensorflow as tf
from color_helpers import NEAR, changed, cuts_of_a_photo, layer_of, noise, per_image, seeds
from keras_cv import layers


@pytest.fixture(scope="module")
def photos():
    return cuts_of_a_photo()


def jittered(images, *, shifts=(0,), contrasts=(1,), saturations=(1,), turns_deg=(0,)):
    """Change images by the numbers that are given, one for all or one for each."""
    layer = layer_of(
        "random_color_jitter",
        max_brightness_fraction=float(shifts != (0,)),
        max_contrast_fraction=float(contrasts != (1,)),
        max_saturation_fraction=1.0,
        max_hue_deg=180.0,
    )
    transformations = {
        "shifts": per_image(shifts),
        "contrasts": per_image(contrasts),
        "saturations": tf.constant(saturations, tf.float32),
        "sextants": tf.constant(turns_deg, tf.float32) / 60,
    }
    return layer.augment_images(tf.constant(images), transformations=transformations).numpy()


@pytest.mark.parametrize(
    ("saturation", "turn_deg"), [(1, 0), (0, 50), (0.5, 0), (2, 0), (1, 75), (1.7, -130), (1, 180)]
)
def test_hue_and_saturation_equal_colorsys(saturation, turn_deg):
    images = noise(count=1, size=12)
    # The corners and edges of the cube of colors, where two channels are equal, and grays.
    images[0, 0, :8] = list(itertools.product((0, 255), repeat=3))
    images[0, 1, :8] = [[255, 80, 80], [80, 255, 80], [80, 80, 255], [9, 9, 9]] * 2
    ours = jittered(images, saturations=[saturation], turns_deg=[turn_deg])
    for pixel, mine in zip(images.reshape(-1, 3) / 255.0, ours.reshape(-1, 3), strict=True):
        hue, sat, value = colorsys.rgb_to_hsv(*pixel)
        expected = colorsys.hsv_to_rgb((hue + turn_deg / 360) % 1, min(sat * saturation, 1), value)
        np.testing.assert_allclose(mine, np.array(expected) * 255, atol=NEAR)


def test_hue_shift_of_120_degrees_rotates_the_channels():
    images = noise()
    np.testing.assert_allclose(jittered(images, turns_deg=[120]), images[..., [2, 0, 1]], atol=NEAR)


def test_brightness_comes_before_contrast_and_each_is_clipped():
    images = noise()
    bright = np.clip(images + 70, 0, 255)
    means = bright.mean(axis=(1, 2), keepdims=True, dtype=np.float64)
    expected = np.clip(means + (bright - means) * 1.6, 0, 255)
    np.testing.assert_allclose(jittered(images, shifts=[70], contrasts=[1.6]), expected, atol=NEAR)


def test_jitter_equals_four_keras_cv_layers_in_sequence(photos):
    shifts, contrasts = [-40, 10, 30, 60], [0.6, 0.9, 1.2, 1.4]
    saturations, turns_deg = np.array([0.3, 0.8, 1.3, 2.0]), np.array([-36, -10, 20, 170])
    steps = [
        (layers.RandomBrightness(1.0), per_image(shifts)),
        (layers.RandomContrast((0, 255), 0.5), per_image(contrasts)),
        (layers.RandomSaturation(0.5), tf.constant(saturations / (1 + saturations), tf.float32)),
        (layers.RandomHue(0.5, (0, 255)), tf.constant(turns_deg / 360, tf.float32)),
    ]
    theirs = tf.constant(photos)
    for layer, transformations in steps:
        theirs = layer.augment_images(theirs, transformations=transformations)
    ours = jittered(
        photos,
        shifts=shifts,
        contrasts=contrasts,
        saturations=saturations.tolist(),
        turns_deg=turns_deg.tolist(),
    )
    np.testing.assert_allclose(ours, theirs, atol=NEAR)


def test_jitter_draws_four_unrelated_numbers_within_their_bounds():
    """Five standard errors of a correlation of 400 pairs are 0.25."""
    from kerastl.augment.stateless_random import StatelessGenerator

    layer = layer_of(
        "random_color_jitter",
        max_brightness_fraction=0.2,
        max_contrast_fraction=0.3,
        max_saturation_fraction=0.4,
        max_hue_deg=50.0,
    )
    layer._random_generator = StatelessGenerator(tf.constant(seeds(400)), 0)
    params = layer.get_random_transformation_batch(400)
    bounds = {
        "shifts": (-51, 51),
        "contrasts": (0.7, 1.3),
        "saturations": (0.6, 1.4),
        "sextants": (-50 / 60, 50 / 60),
    }
    assert params.keys() == bounds.keys()
    for key, (low, high) in bounds.items():
        values = params[key].numpy()
        margin = 0.05 * (high - low)
        assert low - 1e-5 <= values.min() < low + margin
        assert high - margin < values.max() <= high + 1e-5
    table = np.corrcoef([params[key].numpy().ravel() for key in bounds])
    assert np.abs(table[np.triu_indices(4, 1)]).max() < 0.25


@pytest.mark.parametrize("options", [{"max_brightness_fraction": 0.3}, {"max_hue_deg": 40.0}])
def test_jitter_changes_only_what_its_options_name(options):
    images = 80 + noise() / 255 * 90
    after = changed("random_color_jitter", images, **options)
    gap = after - images
    if "max_hue_deg" in options:
        np.testing.assert_allclose(after.max(axis=-1), images.max(axis=-1), atol=NEAR)
        np.testing.assert_allclose(after.min(axis=-1), images.min(axis=-1), atol=NEAR)
    else:
        assert np.ptp(gap, axis=(1, 2, 3)).max() < NEAR
    assert np.abs(gap).max() > 5

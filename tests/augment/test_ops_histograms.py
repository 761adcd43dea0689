"""Equalization and auto-contrast are Pillow's. Statistical bounds: five standard errors."""

import numpy as np
import pytest
import tensorflow as tf
from keras_cv import layers
from layer_helpers import PHOTO, built, by_pillow, changed, mean_within
from PIL import ImageOps

from kerastl.augment.layers.color_layers import Equalization


def fully(name, images):
    """Return the changed copies, with nothing of the originals mixed in."""
    return built(name, len(images)).changed(tf.constant(images, tf.float32)).numpy()


def made_images():
    """Return 8-bit images with difficult histograms: `[12, 48, 48, 3]`."""
    generator = np.random.default_rng(3)
    images = [
        np.clip(generator.normal(mean, spread, (48, 48, 3)), 0, 255)
        for mean in (10, 128, 230)
        for spread in (2, 40, 200)
    ]
    two = generator.choice([17, 203], (48, 48, 3), p=[0.95, 0.05])
    lit = np.where(generator.uniform(size=(48, 48, 3)) < 0.7, 255, images[1])
    constant = np.broadcast_to([0, 77, 255], (48, 48, 3))
    return np.stack([*images, two, lit, constant]).astype(np.uint8)


def test_equalization_equals_pillow_on_8_bit_images():
    for image in [PHOTO, PHOTO[..., :1], *made_images()]:
        ours = fully("equalization", image[None])[0]
        np.testing.assert_array_equal(ours, by_pillow(ImageOps.equalize, image))


def test_equalization_equals_keras_cv_if_the_brightest_level_is_the_rarest():
    """Where it is not, keras-cv's step is another."""
    image = PHOTO.copy()
    image[image > 250] = 250
    image[0, 0] = 255
    theirs = layers.Equalization((0, 255)).augment_images(tf.constant(image[None], tf.float32))
    np.testing.assert_array_equal(fully("equalization", image[None]), theirs.numpy())


def test_equalized_levels_are_uniform():
    """Each tenth of the range has about a tenth of the pixels."""
    shares = np.histogram(fully("equalization", PHOTO[None])[..., 1], bins=10, range=(0, 256))[0]
    assert np.abs(shares / PHOTO[..., 1].size - 0.1).max() < 0.03


def test_equalization_keeps_the_steps_between_8_bit_levels_and_their_order():
    """As a 16-bit image has them."""
    fine = PHOTO[..., :1] + np.random.default_rng(0).uniform(-0.5, 0.5, (120, 120, 1))
    fine = np.clip(fine, 0, 255).astype(np.float32)
    equalized = fully("equalization", fine[None])[0]
    assert len(np.unique(equalized)) > 5000
    in_order = equalized.ravel()[np.argsort(fine.ravel(), kind="stable")]
    assert (np.diff(in_order) >= -1e-3).all()


def test_constant_and_tiny_images_are_not_equalized():
    images = np.full((3, 24, 24, 3), [0.0, 100.9, 255.0], np.float32)
    np.testing.assert_array_equal(changed("equalization", images), images)
    small = np.random.default_rng(0).uniform(0, 255, (3, 15, 17, 3)).astype(np.float32)
    np.testing.assert_array_equal(changed("equalization", small), small)


# ----------------------------------------------------------------------------------- auto-contrast


def test_auto_contrast_equals_pillow_before_truncation():
    dull = (60 + PHOTO * 0.4).astype(np.uint8)
    for image in [dull, dull[..., :1], *made_images()]:
        ours = fully("auto_contrast", image[None])[0].astype(np.float64)
        difference = ours - by_pillow(ImageOps.autocontrast, image)
        # A rounded integer may be 0.0001 below that of Pillow, or truncated to the next one by Pillow.
        assert difference.min() > -1e-4
        assert difference.max() < 1 + 1e-4


def test_auto_contrast_equals_keras_cv_on_a_photograph():
    dull = (60 + PHOTO[None] * 0.4).astype(np.float32)
    theirs = layers.AutoContrast((0, 255)).augment_images(tf.constant(dull))
    np.testing.assert_allclose(fully("auto_contrast", dull), theirs, atol=0.01)


def test_auto_contrast_keeps_constant_channels_with_rounding_errors():
    images = np.full((4, 24, 24, 3), [0.0, 100.9, 255.0], np.float32)
    images[1:, ::2, :, 1] = np.nextafter(images[1:, ::2, :, 1], np.float32(200))
    np.testing.assert_array_equal(changed("auto_contrast", images), images)


def test_auto_contrast_reaches_both_ends_from_one_step_of_a_16_bit_image():
    image = np.full((1, 8, 8, 1), 200.0, np.float32)
    image[:, :4] += np.float32(255 / 65535)
    assert set(fully("auto_contrast", image).ravel()) == {0.0, 255.0}


def test_auto_contrast_never_narrows_a_channel():
    images = np.stack([60 + PHOTO * 0.4] * 16).astype(np.float32)
    before, after = np.ptp(images, axis=(1, 2)), np.ptp(changed("auto_contrast", images), (1, 2))
    assert (after > before - 1e-3).all()


# ------------------------------------------------------------------------------- what both share


@pytest.mark.parametrize("name", ["equalization", "auto_contrast"])
def test_blend_weight_is_drawn_per_image(name):
    image = (60 + PHOTO[:32, :32] * 0.4).astype(np.float32)
    images = np.stack([image] * 500)
    whole = fully(name, images[:1])[0].astype(np.float64)
    mixed = changed(name, images, max_fraction=0.5)
    differ = np.abs(whole - image) > 10
    shares = (mixed - image)[:, differ] / (whole - image)[differ]
    assert np.ptp(shares, axis=1).max() < 1e-4
    assert mean_within(shares[:, 0], 0.25)
    assert shares.max() < 0.5 + 1e-4


def test_table_of_an_image_does_not_depend_on_the_batch():
    """One long histogram serves the whole batch."""
    images = tf.constant(np.stack([PHOTO, 255 - PHOTO, PHOTO // 3]), tf.float32)
    layer = Equalization(1.0, seed=1)
    alone = [layer.changed(images[k : k + 1]).numpy()[0] for k in range(3)]
    np.testing.assert_array_equal(layer.changed(images), np.stack(alone))


@pytest.mark.parametrize("name", ["equalization", "auto_contrast"])
def test_gray_images_stay_gray(name):
    gray = np.repeat(PHOTO[None, :64, :64, :1], 3, axis=-1).astype(np.float32)
    after = changed(name, np.concatenate([gray] * 8))
    assert np.ptp(after, axis=-1).max() == 0
    assert (after != gray).any()

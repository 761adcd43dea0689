"""Faults of keras-cv 0.9.0 in masks, histograms and JPEG. A test fails once a release fixes its fault."""

import numpy as np
import pytest
import tensorflow as tf
from keras_cv import layers
from PIL import Image, ImageOps

pytestmark = pytest.mark.slow
"""keras-cv is pinned, so the default lane does not need them."""

GRAY = 200.0


def flat(count, height=32, width=32):
    return tf.fill([count, height, width, 3], GRAY)


def test_cutout_limits_the_width_by_the_height():
    layer = layers.RandomCutout((1.0, 1.0), (1.0, 1.0), seed=3)
    params = layer.get_random_transformation_batch(5, images=flat(5, 16, 64))
    assert set(params["rectangles_width"].numpy()) == {16}


def test_cutout_loses_area_at_the_border():
    """Rectangles of half of each side should mask 25%; (1 - 1/8) ** 2 of that remains."""
    changed = layers.RandomCutout((0.5, 0.5), (0.5, 0.5), seed=3)(flat(1000)).numpy()
    shares = (changed[..., 0] == 0).mean(axis=(1, 2))
    assert shares.max() == 0.25
    assert shares.mean() == pytest.approx(0.25 * (7 / 8) ** 2, abs=5 * shares.std() / 1000**0.5)


def test_cutout_draws_height_and_width_from_one_seed():
    """In a graph, as in tf.data, both samplers start from it."""
    layer = layers.RandomCutout(0.5, 0.5, seed=3)
    params = tf.function(lambda: layer.get_random_transformation_batch(50, images=flat(50)))()
    np.testing.assert_array_equal(params["rectangles_height"], params["rectangles_width"])


def test_cutout_masks_a_pixel_at_any_strength():
    layer = layers.RandomCutout((1e-6, 1e-6), (1e-6, 1e-6), seed=3)
    assert (layer(flat(10)).numpy() == 0).any(axis=(1, 2, 3)).all()


def test_the_noise_of_cutout_depends_on_the_other_images_and_is_drawn_by_a_stateful_operation():
    from kerastl.testing.augmentation import stateful_random_operations

    layer = layers.RandomCutout((0.5, 0.5), (0.5, 0.5), fill_mode="gaussian_noise", seed=3)
    params = layer.get_random_transformation_batch(2, images=flat(2))
    assert np.ptp(layer.augment_images(flat(2), params)[0]) == 0
    beside_black = tf.concat([flat(1), tf.zeros([1, 32, 32, 3])], axis=0)
    assert np.ptp(layer.augment_images(beside_black, params)[0]) > 50
    assert stateful_random_operations(lambda images, seeds: layer.augment_images(images, params))


def test_grid_mask_fails_on_noise():
    with pytest.raises(AttributeError, match="random_normal"):
        layers.GridMask(fill_mode="gaussian_noise", seed=3)(flat(2))


def test_rotation_enlarges_the_squares_of_a_grid_mask():
    """A ratio of 0.2 should mask 4%; interpolation of the rotated grid enlarges each square."""
    layer = layers.GridMask((0.2, 0.2), rotation_factor=0.125, seed=3)
    shares = (layer(flat(25)).numpy()[..., 0] == 0).mean(axis=(1, 2))
    assert shares.mean() > 0.04 + 5 * shares.std() / 25**0.5


def test_a_grid_mask_lacks_squares_at_the_right():
    """Squares as large as their distance mask everything; here they do so at the left only."""
    layer = layers.GridMask((1.0, 1.0), rotation_factor=0.0, seed=3)
    masked = layer(flat(20, 16, 64)).numpy()[..., 0] == 0
    assert masked[:, :8, :30].all()
    assert not masked[:, :8, -1].all()


def test_a_grid_mask_does_not_compile():
    layer = layers.GridMask((0.5, 0.5), seed=3)
    compiled = tf.function(lambda images: layer(images), jit_compile=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match="ImageProjectiveTransformV3"):
        compiled(flat(1)[0])


def test_equalization_is_not_pillow_s_where_the_brightest_level_is_not_the_rarest():
    """A third of the image is white, as an overexposed sky."""
    image = np.random.default_rng(0).integers(20, 200, (64, 64, 3)).astype(np.uint8)
    image[:21] = 255
    theirs = layers.Equalization((0, 255))(image[None].astype(np.float32)).numpy()[0]
    difference = theirs - np.asarray(ImageOps.equalize(Image.fromarray(image)))
    assert difference.min() < -50


def test_equalization_truncates_decimals():
    image = np.full((1, 16, 16, 3), 100.9, np.float32)
    assert set(layers.Equalization((0, 255))(image).numpy().ravel()) == {100.0}


def test_equalization_does_not_compile():
    layer = layers.Equalization((0, 255))
    compiled = tf.function(lambda images: layer.augment_images(images), jit_compile=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match="HistogramFixedWidth"):
        compiled(flat(2))


def test_auto_contrast_amplifies_rounding_errors():
    image = np.full((1, 16, 16, 1), 100.0, np.float32)
    image[:, ::2] = np.nextafter(np.float32(100), np.float32(200))
    assert set(layers.AutoContrast((0, 255))(image).numpy().ravel()) == {0.0, 255.0}


def test_jpeg_expects_fractions_and_returns_white_images():
    changed = layers.RandomJpegQuality((90, 95), seed=3)(flat(1) / 2)
    np.testing.assert_allclose(changed, 1.0)


def test_jpeg_never_draws_its_best_quality():
    layer = layers.RandomJpegQuality((99, 100), seed=3)
    assert {int(layer.get_random_transformation()) for _ in range(40)} == {99}

"""Faults of keras-cv 0.9.0 in shear and crops. A test fails once a release fixes its fault."""

import numpy as np
import pytest
import tensorflow as tf
from keras_cv import layers

pytestmark = pytest.mark.slow
"""keras-cv is pinned, so the default lane does not need them."""


def ramps(count, height=33, width=33):
    """Return images with the pixel position in their channels: (x, y, 0)."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return tf.constant(np.stack([np.stack([x, y, np.zeros_like(x)], axis=-1)] * count))


def test_shear_is_about_the_top_left_corner():
    """A slope of 0.3 moves the middle of 33 px by 0.3 * 16 px."""
    layer = layers.RandomShear(x_factor=(0.3, 0.3), seed=3)
    params = {"shear_x": tf.constant([[0.3]]), "shear_y": None}
    moved = layer.augment_images(ramps(1), params).numpy()[0]
    assert moved[0, 0, 0] == 0
    assert moved[16, 16, 0] - 16 == pytest.approx(0.3 * 16, abs=1e-3)


def test_shear_draws_both_slopes_from_one_seed():
    layer = layers.RandomShear(x_factor=0.3, y_factor=0.3, seed=3)
    params = tf.function(lambda: layer.get_random_transformation_batch(50))()
    np.testing.assert_array_equal(abs(params["shear_x"]), abs(params["shear_y"]))


def test_crop_skips_rows_and_columns():
    """Ten rows of 40: they should follow each other, and in three windows of four one is left out."""
    rows = layers.RandomCrop(10, 10, seed=3)(ramps(40, 40, 40)).numpy()[:, :, 0, 1]
    steps = np.diff(rows, axis=1)
    assert set(np.unique(steps)) == {1.0, 2.0}
    assert (steps == 2).any(axis=1).mean() > 0.5


def test_crop_changes_the_size():
    assert layers.RandomCrop(30, 30, seed=3)(ramps(2, 40, 40)).shape == (2, 30, 30, 3)


def boxes(count, area, aspect):
    layer = layers.RandomCropAndResize((32, 32), area, aspect, seed=3)

    @tf.function
    def sampled():
        return tf.stack([layer.get_random_transformation()[0] for _ in range(count)])

    top, left, bottom, right = sampled().numpy().T
    return bottom - top, right - left


def test_crop_and_resize_draws_area_and_aspect_ratio_from_one_seed():
    """Two samplers with one seed: the largest windows are the widest."""
    layer = layers.RandomCropAndResize((32, 32), (0.2, 0.4), (0.5, 1.0), seed=3)
    areas, aspects = tf.function(lambda: (layer.crop_area_factor([50]), layer.aspect_ratio_factor([50])))()
    assert np.corrcoef(areas, aspects)[0, 1] > 0.999


def test_crop_and_resize_clips_windows_that_do_not_fit():
    """All of the image at twice its width: it cuts half of the area."""
    heights, widths = boxes(5, (0.9999, 1.0), (1.9999, 2.0))
    np.testing.assert_allclose(heights * widths, 0.5**0.5, atol=1e-3)


def test_crop_and_resize_draws_wide_windows_more_often_than_tall_ones():
    layer = layers.RandomCropAndResize((32, 32), (0.2, 0.4), (0.5, 2.0), seed=3)
    wide = (layer.aspect_ratio_factor([1000]).numpy() > 1).mean()
    assert wide == pytest.approx(2 / 3, abs=5 * (2 / 9 / 1000) ** 0.5)


def test_crop_and_resize_processes_images_one_by_one():
    from keras_cv.layers import VectorizedBaseImageAugmentationLayer

    assert not issubclass(layers.RandomCropAndResize, VectorizedBaseImageAugmentationLayer)

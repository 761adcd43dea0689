import numpy as np
import pytest

from kerastl.audit import FIXED_WIDTHS, PIXEL_WIDTH, fixed_features, pixel_grid, sample_per_class


def _images(size=30):
    return np.random.default_rng(0).uniform(0, 255, (3, size, size, 3)).astype(np.float32)


def test_cells_are_means_of_their_pixels():
    images = _images(32)
    cells = images.reshape(3, 8, 4, 8, 4, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(pixel_grid(images), cells.reshape(3, -1), rtol=1e-5)


def test_sizes_that_eight_does_not_divide_lose_no_pixel():
    image = np.full((1, 30, 30, 3), 7.0, np.float32)
    np.testing.assert_allclose(pixel_grid(image), 7.0, rtol=1e-6)


def test_grey_images_count_as_three_equal_colours():
    images = _images(32)[..., :1]
    assert pixel_grid(images).shape == (3, PIXEL_WIDTH)
    np.testing.assert_array_equal(pixel_grid(images), pixel_grid(np.repeat(images, 3, axis=-1)))


def test_a_flat_image_has_no_edges_and_a_step_has_edges_of_one_direction():
    flat = np.full((1, 32, 32, 3), 90.0, np.float32)
    step = flat.copy()
    step[:, :, 16:] = 200.0
    first, second = (fixed_features(image)[0, PIXEL_WIDTH:].reshape(8, 8, 8) for image in (flat, step))
    assert sum(FIXED_WIDTHS) == fixed_features(flat).shape[1]
    assert not first.any()
    # It grows to the right: direction 0 of 8, in the two columns of cells next to the step.
    assert second[:, 3:5, 0].min() > 0
    assert second.sum() == pytest.approx(second[:, 3:5, 0].sum())


def test_every_group_contributes_an_image_before_any_contributes_two():
    labels = ["a"] * 20
    groups = ["big"] * 15 + ["b", "c", "d", "e", "f"]
    chosen = sample_per_class(labels, groups, most_per_class=6, seed=1)
    assert {groups[row] for row in chosen} == set(groups)
    assert sample_per_class(labels, groups, most_per_class=6, seed=1) == chosen


def test_few_images_are_all_taken():
    assert sample_per_class(["a", "b", "a"], ["1", "2", "3"], most_per_class=9, seed=0) == [0, 1, 2]

"""Hue and saturation in one conversion are what two conversions are: held to `colorsys`, pixel by pixel."""

import colorsys

import numpy as np
import pytest
import tensorflow as tf
from geometry_reference import both, photos, sample_images, sampled_params

from kerastl.augment import build_policy
from kerastl.augment.layers import color_layers

HUE = {"name": "random_hue", "max_deg": 90.0}
SATURATION = {"name": "random_saturation", "max_fraction": 0.9}
ORDERS = {"hue, saturation": [HUE, SATURATION], "saturation, hue": [SATURATION, HUE]}


def factor_of(params):
    """Return by how much the saturation is multiplied: keras-cv draws x and multiplies by x / (1 - x)."""
    return params / (1.0 - params)


def by_colorsys(image, turn, *factors):
    """Return the image, saturation by saturation, each stopped at 1."""
    changed = []
    for pixel in image.reshape(-1, 3) / 255.0:
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel.tolist())
        for factor in factors:
            saturation = min(1.0, saturation * factor)
        changed.append(colorsys.hsv_to_rgb((hue + turn) % 1.0, saturation, value))
    return 255.0 * np.reshape(changed, image.shape)


def small(count):
    """Return photographs, noise, and strong and gray colors: `[count, 12, 12, 3]`."""
    images = sample_images(count, size_px=12)
    images[:, 0] = np.linspace(0, 255, 12)[:, None]
    images[:, 1] = np.eye(3)[np.arange(12) % 3] * 255
    return images


@pytest.mark.parametrize("order", ORDERS)
def test_combined_hsv_change_equals_colorsys_for_every_selection(order):
    operations = [{**operation, "apply_probability": 0.5} for operation in ORDERS[order]]
    images = small(16)
    policy = build_policy(operations, image_size_px=12)
    params = dict(
        zip((operation["name"] for operation in operations), sampled_params(policy, images), strict=True)
    )
    compiled, exact = both(operations, images)
    assert np.abs(compiled - exact).max() < 0.01
    turned, stretched = (params[operation["name"]]["chosen"] for operation in (HUE, SATURATION))
    assert {(True, True), (True, False), (False, True), (False, False)} == set(
        zip(turned.tolist(), stretched.tolist(), strict=True)
    )
    for row, image in enumerate(images):
        turn = params["random_hue"]["transformations"][row] if turned[row] else 0.0
        x = params["random_saturation"]["transformations"][row]
        truth = by_colorsys(image, turn, factor_of(x) if stretched[row] else 1.0)
        assert np.abs(compiled[row] - truth).max() < 0.01
        if not turned[row] and not stretched[row]:
            assert compiled[row].tobytes() == image.tobytes()


def test_adjacent_saturations_are_clipped_separately():
    """A factor of 2 and then of 1/2 leaves strong colors paler: their product, 1, would not."""
    operations = [SATURATION, SATURATION]
    images = small(9)
    params = sampled_params(build_policy(operations, image_size_px=12), images)
    compiled, exact = both(operations, images)
    assert np.abs(compiled - exact).max() < 0.01
    merged_is_far = 0
    for row, image in enumerate(images):
        first, second = (factor_of(numbers["transformations"][row]) for numbers in params)
        assert np.abs(compiled[row] - by_colorsys(image, 0.0, first, second)).max() < 0.01
        merged = by_colorsys(image, 0.0, first * second)
        merged_is_far += np.abs(compiled[row] - merged).max() > 5
    assert merged_is_far


def test_adjacent_hue_and_saturation_share_one_conversion():
    operations = [HUE, SATURATION, HUE]
    images = small(6)
    params = sampled_params(build_policy(operations, image_size_px=12), images)
    compiled, _ = both(operations, images)
    for row, image in enumerate(images):
        first, x, second = (numbers["transformations"][row] for numbers in params)
        truth = by_colorsys(image, first + second, factor_of(x))
        assert np.abs(compiled[row] - truth).max() < 0.01


LINEAR = [{**HUE, "model": "linear"}, {**SATURATION, "model": "linear"}]


@pytest.mark.parametrize("operation", LINEAR, ids=lambda operation: operation["name"])
def test_linear_model_keeps_gray_pixels(operation):
    gray = np.repeat(sample_images(6, size_px=16).mean(axis=-1, keepdims=True), 3, axis=-1)
    for changed in both([operation], gray):
        np.testing.assert_allclose(changed, gray, atol=1e-3)


def test_linear_hue_rotates_about_the_gray_axis():
    turns = np.linspace(-0.5, 0.5, 9).astype(np.float32)
    for turn, matrix in zip(turns, color_layers.hue(tf.constant(turns)).numpy(), strict=True):
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-6)
        assert np.linalg.det(matrix) == pytest.approx(1, abs=1e-6)
        np.testing.assert_allclose(matrix @ np.ones(3), np.ones(3), atol=1e-6)
        assert np.trace(matrix) == pytest.approx(1 + 2 * np.cos(2 * np.pi * turn), abs=1e-5)
    third = color_layers.hue(tf.constant([1 / 3])).numpy()[0]
    np.testing.assert_allclose(third @ (1, 0, 0), (0, 1, 0), atol=1e-6)


def test_linear_saturation_scales_the_distance_from_luma():
    luma, pixel = np.array([0.299, 0.587, 0.114]), np.array([90.0, 140.0, 30.0])
    for factor in (0.0, 0.5, 1.0, 1.7):
        (matrix,) = color_layers.saturation(tf.constant([factor])).numpy()
        changed = matrix @ pixel
        assert luma @ changed == pytest.approx(luma @ pixel, rel=1e-5)
        np.testing.assert_allclose(changed - luma @ pixel, factor * (pixel - luma @ pixel), atol=1e-4)


@pytest.mark.parametrize(("operation", "linear"), [(HUE, LINEAR[0]), (SATURATION, LINEAR[1])])
def test_linear_model_differs_from_hsv(operation, linear):
    images = photos(32)
    differences = both([operation], images)[0] - both([linear], images)[0]
    assert np.abs(differences).mean() > 2


def test_adjacent_linear_operations_are_clipped_separately():
    """The product of their matrices would bring back what the first has clipped."""
    compiled, exact = both(LINEAR, small(9))
    assert np.abs(compiled - exact).max() < 0.01

"""One truth for each operation, known without keras-cv."""

import colorsys

import numpy as np
import pytest

from kerastl.augment import build_policy


@pytest.fixture
def seeds():
    return np.random.default_rng(1).integers(-(2**31), 2**31, (16, 2)).astype(np.int32)


def changed(name, images, seeds, **options):
    # Compiling takes seconds, and the contract compares both.
    policy = build_policy([{"name": name, **options}], image_size_px=images.shape[1], exact=True)
    return policy(images, seeds).numpy()


def noise(size=16, count=16):
    image = np.random.default_rng(0).uniform(0, 255, (size, size, 3)).astype(np.float32)
    return np.stack([image] * count)


def test_brightness_adds_one_number_to_every_pixel(seeds):
    gray = np.full((16, 32, 32, 3), 128.0, np.float32)
    shifts = changed("random_brightness", gray, seeds, max_fraction=0.2) - 128
    assert np.ptp(shifts, axis=(1, 2, 3)).max() < 1e-3
    assert 0.2 * 255 >= np.abs(shifts).max() > 20


def test_rotation_moves_a_corner_as_computed(seeds):
    image = np.zeros((16, 33, 33, 3), np.float32)
    image[:, 4, 4] = 255
    turned = changed("random_rotation", image, seeds, max_deg=10.0)[..., 0]
    for image in turned:
        rows, columns = np.nonzero(image)
        weights = image[rows, columns]
        y, x = np.average(rows, weights=weights) - 16, np.average(columns, weights=weights) - 16
        assert np.hypot(x, y) == pytest.approx(np.hypot(12, 12), abs=0.6)
        angle = np.rad2deg(np.arctan2(y, x) - np.arctan2(-12, -12))
        assert abs((angle + 180) % 360 - 180) <= 11


@pytest.mark.parametrize(
    ("direction", "mirrors"),
    [
        ("horizontal", [np.s_[:, :], np.s_[:, ::-1]]),
        ("vertical", [np.s_[:, :], np.s_[::-1, :]]),
        ("both", [np.s_[:, :], np.s_[:, ::-1], np.s_[::-1, :], np.s_[::-1, ::-1]]),
    ],
)
def test_flip_draws_all_mirror_images_equally_often(direction, mirrors):
    """Of 400; allowed: five standard errors."""
    images = noise(size=8, count=400)
    seeds = np.stack([np.arange(400), np.zeros(400)], axis=1).astype(np.int32)
    images = changed("random_flip", images, seeds, direction=direction)
    counts = [(images == images[0][mirror]).all(axis=(1, 2, 3)).sum() for mirror in mirrors]
    share = 1 / len(mirrors)
    assert sum(counts) == 400
    assert np.abs(np.array(counts) - 400 * share).max() < 5 * np.sqrt(400 * share * (1 - share))


def test_translation_shifts_a_ramp_by_one_distance_per_axis(seeds):
    """On a ramp, every pixel from inside the image shows the shift."""
    down, right = np.mgrid[0:64, 0:64].astype(np.float32)
    ramp = np.stack([down, right, np.zeros_like(down)], axis=-1)
    moved = changed("random_translation", np.stack([ramp] * 16), seeds, max_fraction=0.2)
    shifts = (moved - ramp)[:, 16:48, 16:48, :2]
    assert np.ptp(shifts, axis=(1, 2)).max() < 1e-3
    center_shifts = shifts[:, 0, 0]
    assert 6 < np.abs(center_shifts).max() <= 0.2 * 64
    assert abs(np.corrcoef(center_shifts.T)[0, 1]) < 0.75


def test_zoom_keeps_the_center_and_the_aspect_ratio(seeds):
    down, right = np.mgrid[0:65, 0:65].astype(np.float32) - 32
    ramp = np.stack([down, right, down + right], axis=-1) + 127
    zoomed = changed("random_zoom", np.stack([ramp] * 16), seeds, max_fraction=0.3) - 127
    np.testing.assert_allclose(zoomed[:, 32, 32], 0, atol=1e-3)
    height, width = zoomed[:, 42, 32, 0] / 10, zoomed[:, 32, 42, 1] / 10
    np.testing.assert_allclose(height, width, rtol=1e-4)
    assert height.min() >= 0.7 - 1e-4
    assert height.max() <= 1.3 + 1e-4
    assert np.ptp(height) > 0.3


def test_contrast_scales_channels_about_their_mean(seeds):
    images = 90 + noise() / 255 * 60
    stretched = changed("random_contrast", images, seeds, max_fraction=0.4)
    means = images.mean(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(stretched.mean(axis=(1, 2), keepdims=True), means, rtol=1e-5)
    ratios = (stretched - means).std(axis=(1, 2)) / (images - means).std(axis=(1, 2))
    assert np.ptp(ratios, axis=1).max() < 1e-4
    assert ratios.min() >= 0.6 - 1e-4
    assert ratios.max() <= 1.4 + 1e-4


def hsv(images):
    flat = images.reshape(-1, 3) / 255.0
    return np.array([colorsys.rgb_to_hsv(*pixel) for pixel in flat]).reshape(images.shape)


def test_saturation_keeps_hue_and_value_and_multiplies_the_saturation(seeds):
    images = 120 + noise(size=8) / 255 * 60
    before, after = hsv(images), hsv(changed("random_saturation", images, seeds, max_fraction=0.5))
    np.testing.assert_allclose(after[..., 2], before[..., 2], atol=1e-5)
    turn = np.abs(after[..., 0] - before[..., 0])
    assert np.minimum(turn, 1 - turn).max() < 1e-3
    ratios = (after[..., 1] / before[..., 1]).reshape(16, -1)
    assert np.ptp(ratios, axis=1).max() < 1e-2
    assert ratios.min() >= 0.5 - 1e-2
    assert ratios.max() <= 1.5 + 1e-2


def test_saturation_keeps_gray_pixels_at_full_strength(seeds):
    gray = np.broadcast_to(np.linspace(0, 255, 64).reshape(1, 8, 8, 1), (16, 8, 8, 3))
    images = gray.astype(np.float32)
    left = changed("random_saturation", images, seeds, max_fraction=1.0)
    np.testing.assert_allclose(left, images, atol=1e-3)


def test_hue_shifts_all_pixels_by_one_angle_within_bounds(seeds):
    images = 40 + noise(size=8) / 255 * 160
    before, after = hsv(images), hsv(changed("random_hue", images, seeds, max_deg=30.0))
    np.testing.assert_allclose(after[..., 1:], before[..., 1:], atol=1e-4)
    turns = ((after - before)[..., 0].reshape(16, -1) * 360 + 180) % 360 - 180
    assert np.ptp(turns, axis=1).max() < 0.1
    assert np.abs(turns).max() <= 30.1
    assert turns.min() < -3
    assert turns.max() > 3

"""Image styles against NumPy."""

import numpy as np
import pytest
from make_shapes import images

from kerastl.adaptation import fourier_style, histogram_style, reinhard_style


def fda(images, styles, beta=0.1):
    return fourier_style(images, styles, beta=beta)


STYLES = {"fourier": fda, "reinhard": reinhard_style, "histogram": histogram_style}
BY_NAME = pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)


def random_images(count, seed, *, height=12, width=12, low=30, high=200):
    """Return random color images with smooth blobs."""
    generator = np.random.default_rng(seed)
    coarse = generator.uniform(low, high, (count, 4, 4, 3))
    fine = coarse.repeat(-(-height // 4), axis=1).repeat(-(-width // 4), axis=2)
    fine = fine[:, :height, :width] + generator.normal(0, 8, (count, height, width, 3))
    return np.clip(fine, 0, 255).astype(np.float32)


def to_gray(images):
    return np.repeat(images.mean(axis=-1, keepdims=True), 3, axis=-1).astype(np.float32)


@pytest.mark.parametrize("beta", [0.0, 0.05, 0.1, 0.3])
@pytest.mark.parametrize("sides", [(12, 12), (9, 14), (13, 7)])
def test_fourier_style_equals_numpy(beta, sides):
    height, width = sides
    images, styles = (random_images(3, seed, height=height, width=width, low=80, high=150) for seed in (1, 2))
    own, other = (np.fft.fft2(values.astype(np.float64), axes=(1, 2)) for values in (images, styles))
    rows, columns = (np.abs(np.round(np.fft.fftfreq(side) * side)) for side in sides)
    window = (rows <= np.floor(beta * height))[:, None] & (columns <= np.floor(beta * width))
    amplitude = np.where(window[None, :, :, None], np.abs(other), np.abs(own))
    back = np.fft.ifft2(amplitude * np.exp(1j * np.angle(own)), axes=(1, 2))
    assert np.abs(back.imag).max() < 1e-9
    result = fourier_style(images, styles, beta=beta).numpy()
    np.testing.assert_allclose(result, np.clip(back.real, 0, 255), atol=2e-3)
    assert np.abs(result - images).max() > 1


def test_fourier_style_changes_only_low_frequencies():
    images, styles = (random_images(2, seed, low=80, high=150) for seed in (1, 2))
    result = fourier_style(images, styles, beta=0.1).numpy()
    before, after = (np.fft.fft2(values, axes=(1, 2)) for values in (images, result))
    frequencies = np.abs(np.round(np.fft.fftfreq(12) * 12))
    high = (frequencies[:, None] > 1) | (frequencies[None, :] > 1)
    np.testing.assert_allclose(after[:, high], before[:, high], atol=0.05)


def to_opponents(images):
    cones = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
    cones /= cones.sum(axis=1, keepdims=True)
    logarithms = np.log10(1 + np.float64(images) @ cones.T)
    light = logarithms.sum(axis=-1) / np.sqrt(3)
    yellow = (logarithms[..., 0] + logarithms[..., 1] - 2 * logarithms[..., 2]) / np.sqrt(6)
    red = (logarithms[..., 0] - logarithms[..., 1]) / np.sqrt(2)
    return np.stack([light, yellow, red], axis=-1)


def test_reinhard_style_transfers_moments_in_opponent_color_space():
    images, styles = random_images(3, 1, low=80, high=150), random_images(3, 2, low=100, high=130)
    result = reinhard_style(images, styles).numpy()
    assert result.min() > 0
    assert result.max() < 255, "clipped: the moments would not be met"
    own, other, actual = (to_opponents(values) for values in (images, styles, result))
    axes = {"axis": (1, 2), "keepdims": True}
    expected = (own - own.mean(**axes)) / own.std(**axes) * other.std(**axes) + other.mean(**axes)
    np.testing.assert_allclose(actual, expected, atol=2e-5)
    np.testing.assert_allclose(actual.mean(**axes), other.mean(**axes), atol=1e-5)
    np.testing.assert_allclose(actual.std(**axes), other.std(**axes), rtol=1e-3)


def test_reinhard_style_of_gray_images_transfers_moments_of_gray_levels():
    images, styles = (
        to_gray(random_images(3, 1, low=80, high=150)),
        to_gray(random_images(3, 2, low=100, high=130)),
    )
    result = reinhard_style(images, styles).numpy()
    axes = {"axis": (1, 2, 3), "keepdims": True}
    own, other = np.float64(images), np.float64(styles)
    expected = (own - own.mean(**axes)) / own.std(**axes) * other.std(**axes) + other.mean(**axes)
    np.testing.assert_allclose(result, np.clip(expected, 0, 255), atol=1e-3)


def match_channel(image, style):
    """Match the histogram of one channel like `match_histograms` of scikit-image."""
    _, positions, counts = np.unique(image.ravel(), return_inverse=True, return_counts=True)
    style_values, style_counts = np.unique(style.ravel(), return_counts=True)
    quantiles, style_quantiles = np.cumsum(counts) / image.size, np.cumsum(style_counts) / style.size
    return np.interp(quantiles, style_quantiles, style_values)[positions].reshape(image.shape)


@pytest.mark.parametrize(
    ("few_levels", "rounded_to"), [(False, 1), (True, 1), (False, 4)], ids=["8-bit", "ties", "16-bit"]
)
def test_histogram_style_equals_numpy(few_levels, rounded_to):
    images, styles = random_images(4, 1, low=0, high=255), random_images(4, 2, low=90, high=140)
    if few_levels:
        images = np.floor(images / 60) * 60
        styles[2:] = np.floor(styles[2:] / 40) * 40
    images, styles = (np.round(values * rounded_to) / rounded_to for values in (images, styles))
    result = histogram_style(images, styles).numpy()
    for number in range(4):
        for channel in range(3):
            expected = match_channel(images[number, ..., channel], styles[number, ..., channel])
            np.testing.assert_allclose(result[number, ..., channel], expected, atol=1e-3)


def test_histogram_style_rounds_to_quarters_of_a_level():
    images, styles = random_images(2, 1), random_images(2, 2, low=90, high=140)
    quarters = [np.round(values * 4) / 4 for values in (images, styles)]
    np.testing.assert_array_equal(histogram_style(images, styles), histogram_style(*quarters))


def test_histogram_style_recovers_a_linear_change_of_levels():
    images = np.round(random_images(2, 1, low=0, high=255))
    scanned = 40 + 0.75 * images  # merges no levels
    np.testing.assert_allclose(histogram_style(images, scanned), scanned, atol=1e-3)


@BY_NAME
def test_gray_images_stay_gray_and_color_images_stay_colored(style):
    images, color = random_images(2, 1), random_images(2, 2, low=90, high=140)
    for other in (to_gray(color), color):
        result = style(to_gray(images), other).numpy()
        assert (result == result[..., :1]).all()
        assert abs(result.mean() - other.mean()) < 1.5
    result = style(images, color).numpy()
    assert (result.max(axis=-1) - result.min(axis=-1)).max() > 1


@BY_NAME
def test_image_in_its_own_style_does_not_change(style):
    images = np.round(random_images(3, 1))
    np.testing.assert_allclose(style(images, images), images, atol=0.01)


@BY_NAME
@pytest.mark.parametrize("kind", ["black", "white", "flat", "one white pixel"])
def test_constant_and_extreme_images_stay_finite_and_in_range(style, kind):
    image = np.full((1, 12, 12, 3), {"white": 255, "flat": 90}.get(kind, 0), np.float32)
    if kind == "one white pixel":
        image[0, 3, 3] = 255
    for pair in ((image, random_images(1, 2)), (random_images(1, 2), image), (image, image)):
        result = style(*pair).numpy()
        assert np.isfinite(result).all()
        assert result.min() >= 0
        assert result.max() <= 255


@BY_NAME
def test_each_image_depends_only_on_its_own_style(style):
    images, styles = random_images(4, 1), random_images(4, 2, low=90, high=140)
    together = style(images, styles).numpy()
    alone = style(images[2:3], styles[2:3]).numpy()
    np.testing.assert_array_equal(together[2:3], alone)


@BY_NAME
def test_contrast_and_brightness_of_another_camera_are_transferred(style):
    source, target = (
        np.stack([image for image, _ in images(12, seed, target=shifted)]).astype(np.float32)
        for seed, shifted in ((1, False), (2, True))
    )
    result = style(source, target).numpy()
    per_image = result.mean(axis=(1, 2)) - target.mean(axis=(1, 2))
    assert np.abs(per_image).max() < 1.0
    assert abs(source.mean() - target.mean()) > 30
    if style is not fda:  # Only low frequencies are transferred.
        difference = np.abs(source.std(axis=(1, 2)) - target.std(axis=(1, 2))).mean()
        assert np.abs(result.std(axis=(1, 2)) - target.std(axis=(1, 2))).mean() < 0.35 * difference

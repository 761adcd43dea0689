"""Styles by NumPy: what becomes of an image that is given the style of another."""

import numpy as np
import pytest
from shapes_drawn import images

from kerastl.adaptation import fourier_style, histogram_style, reinhard_style


def fda(images, styles, beta=0.1):
    return fourier_style(images, styles, beta=beta)


STYLES = {"fourier": fda, "reinhard": reinhard_style, "histogram": histogram_style}
BY_NAME = pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)


def drawn(count, seed, *, height=12, width=12, low=30, high=200):
    """Smooth colour images: blobs, so that neighbours are alike."""
    generator = np.random.default_rng(seed)
    coarse = generator.uniform(low, high, (count, 4, 4, 3))
    fine = coarse.repeat(-(-height // 4), axis=1).repeat(-(-width // 4), axis=2)
    fine = fine[:, :height, :width] + generator.normal(0, 8, (count, height, width, 3))
    return np.clip(fine, 0, 255).astype(np.float32)


def grey(images):
    return np.repeat(images.mean(axis=-1, keepdims=True), 3, axis=-1).astype(np.float32)


@pytest.mark.parametrize("beta", [0.0, 0.05, 0.1, 0.3])
@pytest.mark.parametrize("sides", [(12, 12), (9, 14), (13, 7)])
def test_fouriers_style_is_that_of_numpys_transform(beta, sides):
    height, width = sides
    images, styles = (drawn(3, seed, height=height, width=width, low=80, high=150) for seed in (1, 2))
    own, other = (np.fft.fft2(one.astype(np.float64), axes=(1, 2)) for one in (images, styles))
    rows, columns = (np.abs(np.round(np.fft.fftfreq(side) * side)) for side in sides)
    window = (rows <= np.floor(beta * height))[:, None] & (columns <= np.floor(beta * width))
    amplitude = np.where(window[None, :, :, None], np.abs(other), np.abs(own))
    back = np.fft.ifft2(amplitude * np.exp(1j * np.angle(own)), axes=(1, 2))
    assert np.abs(back.imag).max() < 1e-9
    told = fourier_style(images, styles, beta=beta).numpy()
    np.testing.assert_allclose(told, np.clip(back.real, 0, 255), atol=2e-3)
    assert np.abs(told - images).max() > 1


def test_fouriers_style_moves_low_frequencies_alone():
    images, styles = (drawn(2, seed, low=80, high=150) for seed in (1, 2))
    told = fourier_style(images, styles, beta=0.1).numpy()
    before, after = (np.fft.fft2(one, axes=(1, 2)) for one in (images, told))
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


def test_reinhards_style_has_the_moments_of_the_other_image_in_its_own_colour_space():
    images, styles = drawn(3, 1, low=80, high=150), drawn(3, 2, low=100, high=130)
    told = reinhard_style(images, styles).numpy()
    assert told.min() > 0
    assert told.max() < 255, "clipped: the moments would not be met"
    own, other, found = (to_opponents(one) for one in (images, styles, told))
    axes = {"axis": (1, 2), "keepdims": True}
    wanted = (own - own.mean(**axes)) / own.std(**axes) * other.std(**axes) + other.mean(**axes)
    np.testing.assert_allclose(found, wanted, atol=2e-5)
    np.testing.assert_allclose(found.mean(**axes), other.mean(**axes), atol=1e-5)
    np.testing.assert_allclose(found.std(**axes), other.std(**axes), rtol=1e-3)


def test_reinhards_style_of_grey_images_is_of_their_levels():
    images, styles = grey(drawn(3, 1, low=80, high=150)), grey(drawn(3, 2, low=100, high=130))
    told = reinhard_style(images, styles).numpy()
    axes = {"axis": (1, 2, 3), "keepdims": True}
    own, other = np.float64(images), np.float64(styles)
    wanted = (own - own.mean(**axes)) / own.std(**axes) * other.std(**axes) + other.mean(**axes)
    np.testing.assert_allclose(told, np.clip(wanted, 0, 255), atol=1e-3)


def matched(image, style):
    """What scikit-image's match_histograms does with one channel, written out."""
    _, places, counts = np.unique(image.ravel(), return_inverse=True, return_counts=True)
    style_values, style_counts = np.unique(style.ravel(), return_counts=True)
    shares, style_shares = np.cumsum(counts) / image.size, np.cumsum(style_counts) / style.size
    return np.interp(shares, style_shares, style_values)[places].reshape(image.shape)


@pytest.mark.parametrize(
    ("few_levels", "rounded_to"), [(False, 1), (True, 1), (False, 4)], ids=["8-bit", "ties", "16-bit"]
)
def test_histogram_matching_is_that_of_numpys_sorted_levels(few_levels, rounded_to):
    images, styles = drawn(4, 1, low=0, high=255), drawn(4, 2, low=90, high=140)
    if few_levels:
        images = np.floor(images / 60) * 60
        styles[2:] = np.floor(styles[2:] / 40) * 40
    images, styles = (np.round(one * rounded_to) / rounded_to for one in (images, styles))
    told = histogram_style(images, styles).numpy()
    for place in range(4):
        for channel in range(3):
            wanted = matched(images[place, ..., channel], styles[place, ..., channel])
            np.testing.assert_allclose(told[place, ..., channel], wanted, atol=1e-3)


def test_finer_levels_are_rounded_to_quarters():
    images, styles = drawn(2, 1), drawn(2, 2, low=90, high=140)
    quarters = [np.round(one * 4) / 4 for one in (images, styles)]
    np.testing.assert_array_equal(histogram_style(images, styles), histogram_style(*quarters))


def test_what_a_scanner_does_to_the_levels_is_taken_over_exactly_from_the_same_scene():
    images = np.round(drawn(2, 1, low=0, high=255))
    scanned = 40 + 0.75 * images  # which merges no two levels
    np.testing.assert_allclose(histogram_style(images, scanned), scanned, atol=1e-3)


@BY_NAME
def test_grey_images_stay_grey_and_colour_is_not_taken_for_grey(style):
    images, colour = drawn(2, 1), drawn(2, 2, low=90, high=140)
    for other in (grey(colour), colour):
        told = style(grey(images), other).numpy()
        assert (told == told[..., :1]).all()
        assert abs(told.mean() - other.mean()) < 1.5
    told = style(images, colour).numpy()
    assert (told.max(axis=-1) - told.min(axis=-1)).max() > 1


@BY_NAME
def test_a_image_in_its_own_style_is_itself(style):
    images = np.round(drawn(3, 1))
    np.testing.assert_allclose(style(images, images), images, atol=0.01)


@BY_NAME
@pytest.mark.parametrize("kind", ["black", "white", "flat", "one white pixel"])
def test_flat_and_extreme_images_give_finite_images_in_range(style, kind):
    one = np.full((1, 12, 12, 3), {"white": 255, "flat": 90}.get(kind, 0), np.float32)
    if kind == "one white pixel":
        one[0, 3, 3] = 255
    for pair in ((one, drawn(1, 2)), (drawn(1, 2), one), (one, one)):
        told = style(*pair).numpy()
        assert np.isfinite(told).all()
        assert told.min() >= 0
        assert told.max() <= 255


@BY_NAME
def test_each_image_depends_on_its_own_style_alone(style):
    images, styles = drawn(4, 1), drawn(4, 2, low=90, high=140)
    together = style(images, styles).numpy()
    alone = style(images[2:3], styles[2:3]).numpy()
    np.testing.assert_array_equal(together[2:3], alone)


@BY_NAME
def test_another_cameras_contrast_and_brightness_are_taken_over(style):
    source, target = (
        np.stack([one for one, _ in images(12, seed, target=shifted)]).astype(np.float32)
        for seed, shifted in ((1, False), (2, True))
    )
    told = style(source, target).numpy()
    per_image = told.mean(axis=(1, 2)) - target.mean(axis=(1, 2))
    assert np.abs(per_image).max() < 1.0
    assert abs(source.mean() - target.mean()) > 30
    if style is not fda:  # a spread of all frequencies is not that of the low ones
        apart = np.abs(source.std(axis=(1, 2)) - target.std(axis=(1, 2))).mean()
        assert np.abs(told.std(axis=(1, 2)) - target.std(axis=(1, 2))).mean() < 0.35 * apart

"""Operations on levels and sharpness: truths from Pillow and SciPy, and eager keras-cv."""

import numpy as np
import pytest
import tensorflow as tf
from color_helpers import NEAR, as_pillow, changed, cuts_of_a_photo, layer_of, noise, per_image
from keras_cv import layers
from PIL import ImageEnhance, ImageOps
from scipy import ndimage


@pytest.fixture(scope="module")
def photos():
    return cuts_of_a_photo()


@pytest.mark.parametrize("difference", [-1.0, -0.4, 0.0, 0.3, 1.0])
def test_sharpness_equals_pillow_with_factor_1_plus_difference(difference, photos):
    """Pillow rounds its smoothed copy to whole levels and cuts the result down to them."""
    layer = layer_of("random_sharpness", max_fraction=1.0)
    ours = layer.augment_images(photos, transformations={"differences": per_image([difference])})
    for image, mine in zip(photos, ours.numpy(), strict=True):
        theirs = ImageEnhance.Sharpness(as_pillow(image)).enhance(1 + difference)
        assert np.abs(np.asarray(theirs) - mine).max() <= 1 + 0.5 * abs(difference)
        if difference == 0:
            assert mine.tobytes() == image.tobytes()


def test_softening_equals_keras_cv_sharpness(photos):
    shares = per_image([0.1, 0.4, 0.7, 1.0])
    theirs = layers.RandomSharpness(1.0, value_range=(0, 255), dtype="float32").augment_images(
        tf.constant(photos), transformations=shares
    )
    ours = layer_of("random_sharpness", max_fraction=1.0).augment_images(
        photos, transformations={"differences": -shares}
    )
    np.testing.assert_allclose(ours, theirs, atol=NEAR)


@pytest.mark.parametrize(
    ("direction", "softer", "sharper"),
    [("both", True, True), ("sharper", False, True), ("softer", True, False)],
)
def test_direction_limits_sharpness_to_one_side(direction, softer, sharper):
    """A dot on gray gains or loses; nothing is clipped."""
    dot = np.full((32, 9, 9, 3), 100.0, np.float32)
    dot[:, 4, 4] = 150
    after = changed("random_sharpness", dot, max_fraction=0.9, direction=direction)[:, 4, 4, 0]
    assert (after < 150).any() == softer
    assert (after > 150).any() == sharper
    # The smoothed dot is 100 + 50 * 5 / 13: the most that it can move is 50 * 8 / 13.
    assert np.abs(after - 150).max() <= 0.9 * 50 * 8 / 13 + 1e-3
    assert np.abs(after - 150).max() > 0.6 * 50 * 8 / 13


def test_sharpness_keeps_the_outermost_pixels():
    images = noise()
    after = changed("random_sharpness", images, max_fraction=1.0)
    inside = np.zeros((16, 16), bool)
    inside[1:-1, 1:-1] = True
    assert (after[:, ~inside] == images[:, ~inside]).all()
    assert (after[:, inside] != images[:, inside]).mean() > 0.9


def sigmas_of(sigmas, radius):
    from kerastl.augment.layers.color_layers import kernel_halves

    return {"weights": kernel_halves(tf.constant(sigmas, tf.float32), radius)}


@pytest.mark.parametrize("size", [2, 5, 33])
def test_blur_equals_scipy_gaussian_filter_with_mirrored_borders(size):
    """Also where the kernel is wider than the image."""
    sigmas, images = [0.0, 0.3, 1.0, 2.9], noise(count=4, size=size)
    layer = layer_of("random_gaussian_blur", max_sigma_px=3.0)
    ours = layer.augment_images(tf.constant(images), transformations=sigmas_of(sigmas, 9)).numpy()
    assert ours[0].tobytes() == images[0].tobytes()
    for sigma, image, mine in zip(sigmas[1:], images[1:], ours[1:], strict=True):
        wide = image.astype(np.float64)
        theirs = ndimage.gaussian_filter(wide, sigma, axes=(0, 1), mode="mirror", radius=9)
        np.testing.assert_allclose(mine, theirs, atol=1e-3)


def test_blur_equals_keras_cv_away_from_the_borders(photos):
    layer = layer_of("random_gaussian_blur", max_sigma_px=2.0)
    ours = layer.augment_images(tf.constant(photos), transformations=sigmas_of([1.5] * 4, 6))
    theirs = layers.RandomGaussianBlur(13, (1.5, 1.5))
    kernels = theirs.get_random_transformation()
    for mine, image in zip(ours.numpy(), photos, strict=True):
        other = theirs.augment_image(tf.constant(image), transformation=kernels).numpy()
        np.testing.assert_allclose(mine[6:-6, 6:-6], other[6:-6, 6:-6], atol=NEAR)


def test_blur_spreads_a_dot_by_sigma_without_moving_it():
    dot = np.zeros((64, 33, 33, 1), np.float32)
    dot[:, 16, 16] = 255
    after = changed("random_gaussian_blur", dot, max_sigma_px=3.0)[..., 0]
    np.testing.assert_allclose(after.sum(axis=(1, 2)), 255, rtol=1e-5)
    positions = np.arange(33) - 16
    rows, columns = after.sum(axis=2) / 255, after.sum(axis=1) / 255
    np.testing.assert_allclose(rows @ positions, 0, atol=1e-4)
    np.testing.assert_allclose(rows, columns, atol=1e-6)
    widths = np.sqrt(rows @ positions**2)
    assert widths.max() <= 3.0
    assert widths.max() > 2.5
    assert widths.min() < 0.5
    assert len(set(widths.round(4))) > 50


@pytest.mark.parametrize("count", [1, 3, 7])
def test_kernels_do_not_depend_on_the_batch(count):
    """TensorFlow's exponential of 24 weights depends on the rest of the batch."""
    from kerastl.augment.layers.color_layers import kernel_halves

    sigmas = np.linspace(0.1, 8, 21, dtype=np.float32)
    together = kernel_halves(tf.constant(sigmas), 24).numpy()
    parts = [kernel_halves(tf.constant(sigmas[i : i + count]), 24) for i in range(0, 21, count)]
    assert np.concatenate(parts).tobytes() == together.tobytes()


@pytest.mark.parametrize("bits", range(1, 8))
def test_posterization_equals_pillow(bits, photos):
    from kerastl.augment.layers.color_layers import STEPS

    layer = layer_of("posterization", min_bits=bits)
    steps = per_image([STEPS[bits]])
    ours = layer.augment_images(tf.constant(photos), transformations={"steps": steps}).numpy()
    theirs = [np.asarray(ImageOps.posterize(as_pillow(image), bits)) for image in photos]
    assert (ours == np.stack(theirs)).all()
    keras_cv = layers.Posterization(value_range=(0, 255), bits=bits)
    assert (ours == keras_cv.augment_image(tf.constant(photos)).numpy()).all()


def test_posterization_draws_bits_uniformly():
    """Of 300, from 3 to 7 bits; allowed: five standard errors."""
    ramp = np.arange(256, dtype=np.float32).reshape(1, 16, 16, 1)
    after = changed("posterization", np.repeat(ramp, 300, axis=0), min_bits=3)
    levels = np.array([len(np.unique(image)) for image in after])
    counts = np.array([(levels == 2**bits).sum() for bits in range(3, 8)])
    assert counts.sum() == 300
    assert np.abs(counts - 60).max() < 5 * np.sqrt(300 / 5 * 4 / 5)
    assert (after <= ramp).all()


@pytest.mark.parametrize("threshold", [0, 1, 90, 128, 254])
def test_solarization_equals_pillow(threshold, photos):
    layer = layer_of("solarization", min_threshold=0)
    transformations = {"additions": per_image([0]), "thresholds": per_image([threshold])}
    ours = layer.augment_images(tf.constant(photos), transformations=transformations).numpy()
    theirs = [np.asarray(ImageOps.solarize(as_pillow(image), threshold)) for image in photos]
    assert (ours == np.stack(theirs)).all()


def test_solarization_draws_thresholds_from_the_minimum_to_255():
    ramp = np.repeat(np.arange(256, dtype=np.float32).reshape(1, 16, 16, 1), 100, axis=0)
    after = changed("solarization", ramp, min_threshold=100)
    assert (after[ramp < 100] == ramp[ramp < 100]).all()
    kept = (after == ramp).sum(axis=(1, 2, 3))
    assert 100 <= kept.min() < 110
    assert 245 < kept.max() <= 255
    assert ((after == ramp) | (after == 255 - ramp)).all()

"""Shear, crop, crop and resize: one truth or more for each, known without the code; and what they must never do."""

import numpy as np
import pytest
from geometry_reference import SIZE_PX, both, pair, photos, sample_images, sampled_params, seeds
from scipy.stats import kstest

from kerastl.augment import build_policy
from kerastl.errors import RequestError

CROP = {"name": "random_crop", "max_fraction": 0.25}
AREA = {"name": "random_crop_and_resize", "min_area_fraction": 0.2, "max_aspect_ratio": 2.0}


def ramps(count, size_px=SIZE_PX):
    """Return images with the pixel position in their channels: (x, y, 0), `[count, height, width, 3]` float32."""
    height, width = pair(size_px)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return np.stack([np.stack([x, y, np.zeros_like(x)], axis=-1)] * count)


def changed(operation, images):
    return build_policy([operation], image_size_px=images.shape[1:3])(images, seeds(len(images))).numpy()


def test_shear_keeps_the_center_and_areas():
    """Return the derivatives of the input coordinates, measured on ramps."""
    came_from = changed({"name": "random_shear", "max_fraction": 0.2}, ramps(64, 65))
    middle = came_from[:, 20:45, 20:45, :2]
    np.testing.assert_allclose(came_from[:, 32, 32, :2], 32, atol=1e-3)
    along_x, along_y = (
        np.diff(middle, axis=axis).mean(axis=(1, 2)) for axis in (2, 1)
    )  # fmt: skip
    areas = along_x[:, 0] * along_y[:, 1] - along_x[:, 1] * along_y[:, 0]
    np.testing.assert_allclose(areas, 1, atol=1e-3)
    slopes = np.stack([along_y[:, 0], along_x[:, 1]])
    assert 0.17 < np.abs(slopes).max() <= 0.2 + 1e-3
    assert np.abs(np.corrcoef(slopes)[0, 1]) < 5 / np.sqrt(64)


def test_crop_shows_exactly_its_window():
    """42 x 54 of 56 x 72 px: the corners are pixels of the image, at every position that fits, all equally often."""
    images = sample_images(1)[[0] * 600]
    cut = changed(CROP, images)
    params = sampled_params(build_policy([CROP], image_size_px=SIZE_PX), images)[0]["transformations"]
    tops, lefts = params["tops"].astype(int), params["lefts"].astype(int)
    assert (set(tops), set(lefts)) == (set(range(15)), set(range(19)))
    for row, (top, left) in enumerate(zip(tops, lefts, strict=True)):
        window = images[0][top : top + 42, left : left + 54]
        corners = window[np.ix_([0, -1], [0, -1])]
        np.testing.assert_allclose(cut[row][np.ix_([0, -1], [0, -1])], corners, atol=0.01)
        assert cut[row].min() >= window.min() - 0.01
        assert cut[row].max() <= window.max() + 0.01
    for firsts, places in ((tops, 15), (lefts, 19)):
        counts = np.bincount(firsts, minlength=places)
        assert np.abs(counts - 600 / places).max() < 5 * np.sqrt(600 / places)


def test_crop_skips_no_row_and_keeps_the_aspect_ratio():
    came_from = changed(CROP, ramps(16))[..., :2]
    np.testing.assert_allclose(np.diff(came_from[:, 0, :, 0]), 53 / 71, atol=1e-4)
    np.testing.assert_allclose(np.diff(came_from[:, :, 0, 1]), 41 / 55, atol=1e-4)


def test_crop_below_one_pixel_changes_no_byte():
    images = sample_images(4)
    assert changed({**CROP, "max_fraction": 0.005}, images).tobytes() == images.tobytes()


def windows(operation, count):
    """Return (tops, lefts, heights, widths) read from ramps, as fractions of the image, `[count]` each."""
    came_from = changed(operation, ramps(count, (32, 44)))[..., :2] / (43, 31)
    first, last = came_from[:, 0, 0], came_from[:, -1, -1]
    return first[:, 1], first[:, 0], *(last - first).T[::-1]


def test_crop_and_resize_windows_have_the_sampled_area_inside_the_image():
    tops, lefts, heights, widths = windows(AREA, 2000)
    assert min(tops.min(), lefts.min()) >= 0
    assert max((tops + heights).max(), (lefts + widths).max()) <= 1 + 1e-6
    # The error rate of each of these tests is one in a billion.
    assert kstest(heights * widths, "uniform", args=(0.2, 0.8)).pvalue > 1e-9
    aspects = np.log(widths / heights)
    fits = np.minimum(np.log(2.0), -np.log(heights * widths))
    assert kstest(aspects / fits, "uniform", args=(-1, 2)).pvalue > 1e-9
    assert np.exp(np.abs(aspects)).max() <= 2 + 1e-3
    for start, length in ((tops, heights), (lefts, widths)):
        inner = length < 0.99
        assert kstest((start / (1 - length))[inner], "uniform").pvalue > 1e-9


def test_crop_and_resize_with_aspect_ratio_1_keeps_the_aspect_ratio_of_the_image():
    _, _, heights, widths = windows({**AREA, "max_aspect_ratio": 1.0}, 50)
    np.testing.assert_allclose(heights, widths, atol=1e-4)


def test_crop_and_resize_equals_tensorflow_crop_and_resize():
    import tensorflow as tf

    images = sample_images(12)
    tops, lefts, heights, widths = windows(AREA, 12)
    boxes = np.stack([tops, lefts, tops + heights, lefts + widths], axis=1)
    theirs = tf.image.crop_and_resize(images, boxes, np.arange(12), SIZE_PX)
    compiled, exact = both([AREA], images)
    # The windows were read off 8 digits of a ramp.
    assert np.abs(compiled - theirs.numpy()).max() < 0.05
    assert np.abs(exact - compiled).max() < 0.01


@pytest.mark.parametrize("operation", [CROP, AREA], ids=lambda operation: operation["name"])
def test_crops_show_no_border_next_to_operations_that_fill_it(operation):
    """Folded into a warp that fills with black, or wraps, they still end at the image's edge."""
    white = np.full((32, *SIZE_PX, 3), 255.0, np.float32)
    never = {"name": "random_rotation", "max_deg": 1.0, "apply_probability": 1e-9}
    never_constant = {**never, "fill_mode": "constant"}
    compiled = build_policy([operation, never_constant], image_size_px=SIZE_PX)(white, seeds(32))
    assert np.abs(compiled - white).max() < 0.01
    halves = white.copy()
    halves[:, :, : SIZE_PX[1] // 2] = 0
    wrapped = build_policy(
        [operation, {**never_constant, "fill_mode": "wrap"}], image_size_px=SIZE_PX
    )(halves, seeds(32)).numpy()  # fmt: skip
    assert np.diff(wrapped, axis=2).min() > -0.01


def test_crop_is_smooth_on_photographs():
    """A window enlarged has no level that the image had not."""
    images = photos()
    for operation in (CROP, AREA):
        cut = changed(operation, images)
        assert (cut.max(axis=(1, 2)) <= images.max(axis=(1, 2)) + 0.01).all()


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        ({**CROP, "max_fraction": 1.0}, "below 1, got 1.0"),
        ({**AREA, "min_area_fraction": 0.0}, "greater than 0"),
        ({**AREA, "max_aspect_ratio": 0.5}, "from 1 to 10, got 0.5"),
        ({"name": "random_shear", "max_fraction": 2}, "from 0 to 1, got 2"),
        ({"name": "random_zoom", "max_fraction": 0.1, "fill_mode": "mirror"}, "'reflect', 'wrap'"),
    ],
)
def test_invalid_option_is_refused_with_the_allowed_values(operation, message):
    with pytest.raises(RequestError, match=message):
        build_policy([operation], image_size_px=SIZE_PX)

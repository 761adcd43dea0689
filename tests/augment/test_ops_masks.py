"""Cutout and grid mask: truths known from geometry and statistics. Statistical bounds: five standard errors."""

import numpy as np
import pytest
import tensorflow as tf
from layer_helpers import PHOTO, built, changed, mean_within

from kerastl import registry
from kerastl.augment import build_policy

NAMES = ["random_cutout", "grid_mask", "equalization", "auto_contrast", "random_jpeg_quality"]
GRAY = 200.0


def flat(count, height=24, width=24, channels=1):
    return np.full((count, height, width, channels), GRAY, np.float32)


# ----------------------------------------------------------------------------------------- cutout


@pytest.fixture(scope="module")
def rectangles():
    """Return height, width, top and left of 4,000 rectangles in images of 20 x 30 pixels."""
    images = tf.constant(flat(4000, 20, 30))
    layer = built("random_cutout", 4000, max_fraction=0.5, fill_value=0.0)
    params = layer.get_random_transformation_batch(4000, images=images)
    starts, ends = params["starts"].numpy(), params["ends"].numpy()
    masked = layer.augment_images(images, transformations=params).numpy()[..., 0] == 0
    for image, (top, left), (bottom, right) in zip(masked, starts, ends, strict=True):
        assert image[top:bottom, left:right].all()
        assert image.sum() == (bottom - top) * (right - left)
    return np.concatenate([ends - starts, starts], axis=1)


def test_cutout_masks_the_documented_area(rectangles):
    share = rectangles[:, 0] * rectangles[:, 1] / (20 * 30)
    assert mean_within(share, 0.5**2 / 4)
    assert share.max() <= 0.5**2


@pytest.mark.parametrize(("axis", "largest"), [(0, 10), (1, 15)])
def test_cutout_draws_each_length_equally_often(rectangles, axis, largest):
    """Only half a pixel is rounded to each end, so the ends are half as frequent."""
    counts = np.bincount(rectangles[:, axis], minlength=largest + 1)
    shares = np.full(largest + 1, 1 / largest)
    shares[[0, -1]] /= 2
    errors = np.sqrt(4000 * shares * (1 - shares))
    assert (np.abs(counts - 4000 * shares) < 5 * errors).all()


def test_cutout_draws_height_width_and_position_independently(rectangles):
    seen = rectangles[(rectangles[:, :2] > 0).all(axis=1)]
    height, width, top, left = seen.T
    positions = np.stack([(top + 0.5) / (20 - height + 1), (left + 0.5) / (30 - width + 1)])
    correlations = np.corrcoef([height, width, *positions]) - np.eye(4)
    assert np.abs(correlations).max() < 5 / np.sqrt(len(seen))


def test_cutout_position_is_uniform_inside_the_image(rectangles):
    for side, length, start in [(20, 0, 2), (30, 1, 3)]:
        seen = rectangles[(rectangles[:, :2] > 0).all(axis=1)]
        free = side - seen[:, length] + 1
        position = (seen[:, start] + 0.5) / free
        assert mean_within(position, 0.5)
        # Of a uniform number on the middles of n cells: (1 - 1 / n ** 2) / 12.
        assert mean_within((position - 0.5) ** 2 - (1 - free**-2.0) / 12, 0.0)
        assert mean_within((seen[:, start] == 0) - 1 / free, 0.0)
        assert mean_within((seen[:, start] == free - 1) - 1 / free, 0.0)


def test_cutout_can_mask_almost_everything_inside_the_image():
    masked = changed("random_cutout", flat(500), max_fraction=1.0, fill_value=0.0)[..., 0] == 0
    rows, columns = masked.any(axis=2), masked.any(axis=1)
    np.testing.assert_array_equal(masked, rows[:, :, None] & columns[:, None, :])
    assert masked.mean(axis=(1, 2)).max() > 0.9


@pytest.mark.parametrize("name", ["random_cutout", "grid_mask"])
def test_unmasked_pixels_are_unchanged(name):
    images = np.random.default_rng(0).uniform(1, 255, (32, 24, 24, 3)).astype(np.float32)
    masked = changed(name, images, max_fraction=0.6, fill_value=0.0)
    gone = masked == 0
    np.testing.assert_array_equal(masked[~gone], images[~gone])
    assert (gone.any(axis=-1) == gone.all(axis=-1)).all()
    assert gone.any()


@pytest.mark.parametrize("name", ["random_cutout", "grid_mask"])
def test_noise_is_normal_about_the_fill_value_and_a_function_of_the_seed(name):
    images = flat(64, channels=3)
    options = {"max_fraction": 0.6, "fill_mode": "gaussian_noise"}
    noisy = changed(name, images, **options)
    masked = changed(name, images, max_fraction=0.6, fill_value=0.0) == 0
    np.testing.assert_array_equal(noisy[~masked], GRAY)
    noise = noisy[masked].astype(np.float64)
    assert len(noise) > 5000
    assert mean_within(noise, 127.5)
    # Three standard deviations reach the ends of the range: 0.27% are held there.
    assert noise.std() == pytest.approx(42.5, abs=5 * 42.5 / np.sqrt(2 * len(noise)) + 0.2)
    assert mean_within(np.abs(noise - 127.5) < 42.5, 0.6827)
    np.testing.assert_array_equal(changed(name, images, **options), noisy)
    dark = changed(name, images / 4, **options)
    np.testing.assert_array_equal(dark[masked], noisy[masked])


def test_noise_differs_between_pixels_channels_and_images():
    layer = built("random_cutout", 400, max_fraction=1.0, fill_mode="gaussian_noise")
    images = tf.constant(flat(400, 4, 4, 3))
    fill = layer.get_random_transformation_batch(400, images=images)["fill"].numpy()
    correlations = np.corrcoef(fill.reshape(400, -1).T) - np.eye(48)
    assert np.abs(correlations).max() < 5 / np.sqrt(400)


# -------------------------------------------------------------------------------------- grid mask


def sampled_grid(count=1500, **options):
    layer = built("grid_mask", count, max_fraction=0.6, fill_value=0.0, **options)
    images = tf.constant(flat(count))
    return layer, images, layer.get_random_transformation_batch(count, images=images)


def in_units(number):
    """Convert grid periods to the integers of the layer, 2 ** 32 per period."""
    return tf.constant(np.round(np.asarray(number) * 2.0**32).astype(np.int32))


def test_grid_mask_masks_each_pixel_with_probability_ratio_squared():
    """A ratio of 0.4 masks 16%, in the center and in the corners."""
    layer, images, params = sampled_grid()
    params = {**params, "ends": tf.repeat(in_units([0.4 - 0.5]), len(images))}
    masked = layer.augment_images(images, transformations=params).numpy()[..., 0] == 0
    error = np.sqrt(0.16 * 0.84 / len(masked))
    assert np.abs(masked.mean(axis=0) - 0.16).max() < 5 * error
    assert mean_within(masked.mean(axis=(1, 2)), 0.16)


def test_grid_mask_masks_the_documented_area():
    masked = changed("grid_mask", flat(3000), max_fraction=0.6, fill_value=0.0) == 0
    assert mean_within(masked.mean(axis=(1, 2, 3)), 0.6**2 / 3)
    assert not masked.all(axis=(1, 2, 3)).any()


def test_grid_mask_draws_angle_period_ratio_and_position_independently():
    _, _, params = sampled_grid(max_deg=30.0)
    steps = params["steps"].numpy() / 2.0**32
    degrees = np.rad2deg(np.arctan2(steps[:, 1], steps[:, 0]))
    distance_px = 1 / (2 * np.hypot(*steps.T))
    ratios = params["ends"].numpy() / 2.0**32 + 0.5
    numbers = [degrees, distance_px, ratios, *(params["shifts"].numpy().T / 2.0**32)]
    bounds = [(-30, 30), (0.3 * 24, 0.5 * 24), (0, 0.6), (-0.5, 0.5), (-0.5, 0.5)]
    for values, (low, high) in zip(numbers, bounds, strict=True):
        assert low - 1e-3 <= values.min() < values.max() <= high + 1e-3
        assert mean_within(values, (low + high) / 2)
        assert mean_within((values - (low + high) / 2) ** 2, (high - low) ** 2 / 12)
    correlations = np.corrcoef(numbers) - np.eye(5)
    assert np.abs(correlations).max() < 5 / np.sqrt(len(degrees))


def test_unrotated_grid_has_squares_of_three_pixels_every_ten():
    """If the center of a 40-pixel image is a corner of the squares, they start at columns 0, 10, 20 and 30."""
    layer = built("grid_mask", 1, max_fraction=1.0, fill_value=0.0)
    params = {
        "steps": in_units([[1 / 20, 0.0]]),
        "shifts": in_units([[-0.5, -0.5]]),
        "ends": in_units([0.3 - 0.5]),
    }
    masked = layer.augment_images(tf.constant(flat(1, 40, 40)), transformations=params).numpy() == 0
    expected = np.isin(np.arange(40) % 10, [0, 1, 2])
    np.testing.assert_array_equal(masked[0, ..., 0], expected[:, None] & expected[None, :])


@pytest.mark.parametrize("degrees", [-40.0, 17.0, 45.0])
def test_rotated_grid_has_its_corners_as_computed(degrees):
    """The corners of a square are computed by rotation, and its inside by matplotlib."""
    from matplotlib.path import Path

    size, unit_px, ratio, angle = 48, 17.0, 0.6, np.deg2rad(degrees)
    layer = built("grid_mask", 1, max_fraction=1.0, fill_value=0.0)
    params = {
        "steps": in_units([[np.cos(angle) / (2 * unit_px), np.sin(angle) / (2 * unit_px)]]),
        "shifts": in_units([[0.25, -0.125]]),
        "ends": in_units([ratio - 0.5]),
    }
    images = tf.constant(flat(1, size, size))
    masked = layer.augment_images(images, transformations=params).numpy()[0, ..., 0] == 0
    centers = np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1) + 0.5 - size / 2
    back = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    expected = np.zeros(size * size, bool)
    for i, j in np.ndindex(9, 9):
        start = np.array([i - 4 - 0.5 - 0.25, j - 4 - 0.5 + 0.125])
        square = start + ratio * np.array([[0, 0], [0, 1], [1, 1], [1, 0]])
        expected |= Path(unit_px * square @ back).contains_points(centers.reshape(-1, 2))
    # The center of a pixel may be on an edge.
    assert (masked.ravel() != expected).mean() < 1e-3
    assert 0.2 < expected.mean() < 0.5


# ------------------------------------------------------------------------------------------- all


@pytest.mark.parametrize("name", NAMES)
def test_change_increases_with_strength_from_none_at_0(name):
    module = registry.module("operation", name)
    images = np.stack([60 + PHOTO[:32, :32] * 0.4] * 40).astype(np.float32)
    seeds = np.stack([np.arange(40), np.zeros(40)], axis=1).astype(np.int32)
    moved = []
    for strength in (0.0, 0.25, 0.5, 1.0):
        policy = build_policy([(name, module.at_strength(strength))], image_size_px=32, exact=True)
        moved.append(np.abs(policy(images, seeds).numpy() - images).mean())
    assert moved[0] == 0.0
    assert (np.diff(moved) > 0).all()


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("random_cutout", "gaussian_noise"),
        ("auto_contrast", None),
        pytest.param("random_cutout", "constant", marks=pytest.mark.slow),
        pytest.param("grid_mask", "constant", marks=pytest.mark.slow),
        pytest.param("grid_mask", "gaussian_noise", marks=pytest.mark.slow),
        pytest.param("equalization", None, marks=pytest.mark.slow),
    ],
)
def test_compiled_mask_equals_eager_mask(name, mode):
    module = registry.module("operation", name)
    assert module.COMPILES
    options = {"max_fraction": 0.6, **({"fill_mode": mode} if mode else {})}
    images = tf.constant(np.stack([PHOTO[k : k + 40, k : k + 48] / 1.3 for k in range(9)]))
    images = tf.cast(images, tf.float32)
    layer = built(name, 9, **options)
    params = layer.get_random_transformation_batch(9, images=images)

    def run(images, params):
        return layer.augment_images(images, transformations=params)

    compiled = tf.function(run, jit_compile=True)(images, params)
    np.testing.assert_allclose(compiled, run(images, params), atol=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_bytes_of_an_image_do_not_depend_on_its_batch(name):
    module = registry.module("operation", name)
    images = np.stack([PHOTO[k : k + 37, k : k + 37] / 1.3 for k in range(19)]).astype(np.float32)
    seeds = np.stack([np.arange(19), np.full(19, 3)], axis=1).astype(np.int32)
    policy = build_policy([(name, module.at_strength(1.0))], image_size_px=37)
    alone = [policy(images[k : k + 1], seeds[k : k + 1]).numpy()[0] for k in range(19)]
    assert np.stack(alone).tobytes() == policy(images, seeds).numpy().tobytes()

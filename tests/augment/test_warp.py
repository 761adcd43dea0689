"""One warp by affine maps: held to SciPy, to NumPy's padding and to eager keras-cv."""

import numpy as np
import pytest
import tensorflow as tf
from geometry_reference import (
    SIZE_PX,
    both,
    by_scipy,
    keep_center,
    photos,
    sample_images,
    sampled_params,
    seeds,
    warp,
)
from keras_cv import layers

from kerastl.augment import build_policy
from kerastl.augment.geometry import translation

MODES = ["reflect", "wrap", "nearest", "constant"]
PADDED = {"reflect": "symmetric", "wrap": "wrap", "nearest": "edge", "constant": "constant"}
"""NumPy's names of the same rules."""
GENERAL = [[0.8137, 0.5291], [-0.3173, 1.1319]]


def moved_by(down, right, count=6):
    maps = translation(tf.fill([count], float(down)), tf.fill([count], float(right)))
    return tf.cast(maps, tf.float32)


def rows(matrices):
    return tf.constant(np.stack([matrix[:2].ravel() for matrix in matrices]), tf.float32)


@pytest.fixture(scope="module")
def images():
    return sample_images(6)


@pytest.fixture(scope="module")
def general():
    """Maps that look up to 20 px outside, each another way."""
    turned = [keep_center(np.array(GENERAL) * size, SIZE_PX) for size in np.linspace(0.5, 1, 6)]
    for number, matrix in enumerate(turned):
        matrix[:2, 2] += (0.913 * number, -2.517 * number)
    return turned


@pytest.mark.parametrize("mode", MODES)
def test_padding_and_the_fill_of_a_rotation_have_one_color(mode):
    """A bright image on the black of `resize: pad`: no third level appears, except where the two are interpolated."""
    padded = np.zeros((6, 40, 60, 3), np.float32)
    padded[:, 10:30] = 200
    operation = {"name": "random_rotation", "max_deg": 30, "fill_mode": mode}
    rotated = build_policy([operation], image_size_px=(40, 60), exact=True)(padded, seeds(6)).numpy()
    is_edge = (rotated > 0.01) & (rotated < 199.99)
    assert rotated.max() < 200.01
    assert is_edge.mean() < 0.1
    assert (rotated < 0.01).mean() > 0.3


@pytest.mark.parametrize("mode", MODES)
def test_identity_map_changes_no_byte(images, mode):
    nothing = tf.constant([[1.0, 0, 0, 0, 1, 0]] * len(images))
    assert warp(tf.constant(images), nothing, fill_mode=mode).numpy().tobytes() == images.tobytes()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("down", [-29, 0, 17])
def test_integer_shifts_equal_padded_images(images, mode, down):
    """Moved by whole pixels, the result is a part of the image that NumPy pads."""
    right = 23
    moved = warp(tf.constant(images), moved_by(down, right), fill_mode=mode).numpy()
    padded = np.pad(images, [(0, 0), (32, 32), (32, 32), (0, 0)], mode=PADDED[mode])
    rest = padded[:, 32 - down : 32 - down + SIZE_PX[0], 32 - right : 32 - right + SIZE_PX[1]]
    np.testing.assert_array_equal(moved, rest)


@pytest.mark.parametrize("mode", MODES)
def test_bilinear_interpolation_equals_scipy(images, general, mode):
    ours = warp(tf.constant(images), rows(general), fill_mode=mode).numpy()
    theirs = [by_scipy(image, matrix, mode) for image, matrix in zip(images, general, strict=True)]
    far = np.abs(ours - np.stack(theirs)) > 0.01
    # A tile ends at once: a position within rounding of the seam may fall to either side.
    assert far.mean() <= (1e-3 if mode == "wrap" else 0)


@pytest.mark.parametrize("mode", MODES)
def test_compiled_warp_equals_eager_warp(images, general, mode):
    compiled = tf.function(lambda pixels, maps: warp(pixels, maps, fill_mode=mode), jit_compile=True)
    inputs = tf.constant(images), rows(general)
    eager = warp(*inputs, fill_mode=mode)
    assert np.abs(compiled(*inputs).numpy() - eager.numpy()).max() < 0.01


def test_constant_border_fades_over_one_pixel(images):
    """Half a pixel outside, half of the level is left."""
    white = tf.fill([1, 16, 16, 3], 200.0)
    moved = warp(white, moved_by(0, 2.5, count=1), fill_mode="constant")
    np.testing.assert_array_equal(moved[0, 8, :5, 0], [0, 0, 100, 200, 200])


LAYERS = {
    "random_rotation": (lambda mode: layers.RandomRotation(0.25, fill_mode=mode), {"max_deg": 90.0}),
    "random_zoom": (lambda mode: layers.RandomZoom(0.5, fill_mode=mode), {"max_fraction": 0.5}),
    "random_translation": (
        lambda mode: layers.RandomTranslation(0.9, 0.9, fill_mode=mode), {"max_fraction": 0.9}
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        pytest.param(
            name, mode, marks=() if name == "random_rotation" or mode == "wrap" else pytest.mark.slow
        )
        for name in LAYERS
        for mode in MODES
    ],
)
def test_single_operation_equals_keras_cv_in_every_fill_mode(images, name, mode):
    make, options = LAYERS[name]
    operations = [{"name": name, "fill_mode": mode, **options}]
    (params,) = sampled_params(build_policy(operations, image_size_px=SIZE_PX), images)
    theirs = make(mode).augment_images(images, transformations=params["transformations"]).numpy()
    compiled, exact = both(operations, images)
    assert np.abs(compiled - theirs).max() < 0.01
    # keras-cv's own sines depend on the batch in the last digit.
    assert np.abs(exact - theirs).max() < 0.01


def test_fill_mode_determines_pixels_outside_the_image():
    images, shown = photos(), set()
    for mode in MODES:
        operation = {"name": "random_rotation", "max_deg": 90.0, "fill_mode": mode}
        policy = build_policy([operation], image_size_px=SIZE_PX, exact=True)
        shown.add(policy(images, seeds(len(images))).numpy().tobytes())
    assert len(shown) == len(MODES)


def test_constant_image_stays_constant_and_in_range():
    levels = np.array([0.0, 37.3, 255.0] * 5, np.float32)[:, None, None, None]
    flat = np.broadcast_to(levels, (15, *SIZE_PX, 3))
    turned, _ = both([{"name": "random_rotation", "max_deg": 45.0}], flat)
    np.testing.assert_allclose(turned, flat, rtol=1e-6)
    assert turned.min() >= 0
    assert turned.max() <= 255

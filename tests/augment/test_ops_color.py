"""Properties of all color and level operations, and color operations against Pillow, colorsys and keras-cv."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from color_helpers import (
    NEAR,
    as_pillow,
    changed,
    cuts_of_a_photo,
    layer_and_params,
    layer_of,
    noise,
    operation,
    per_image,
    policy_of,
    seeds,
)
from keras_cv import layers
from PIL import ImageEnhance

from kerastl.augment import build_policy

NAMES = [
    "channel_shuffle",
    "grayscale",
    "posterization",
    "random_channel_shift",
    "random_color_degeneration",
    "random_color_jitter",
    "random_gaussian_blur",
    "random_sharpness",
    "solarization",
]
WITHOUT_ADDED_COLOR = sorted(set(NAMES) - {"random_channel_shift"})
KEEPS_CONSTANT_IMAGES = ["random_gaussian_blur", "random_sharpness"]
COMPILED = ["posterization", "random_gaussian_blur"]
"""Compiled in the default lane: one operation with thresholds, one that reads neighbors."""
KEEPS_GRAY_BYTES = ["channel_shuffle", "grayscale", "random_color_degeneration"]


@pytest.fixture(scope="module")
def photos():
    return cuts_of_a_photo()


@pytest.mark.parametrize("name", NAMES)
def test_strength_0_changes_no_byte_and_strength_1_does(name):
    module, images = operation(name), noise()
    none, all_of_it = (
        policy_of(name, module.at_strength(strength))(images, seeds(8)) for strength in (0.0, 1.0)
    )
    assert none.numpy().tobytes() == images.tobytes()
    assert np.abs(all_of_it.numpy() - images).mean() > 1


@pytest.mark.parametrize("name", NAMES)
def test_more_strength_changes_more(name, photos):
    """The mean change of 64 images by their own seeds; a strength's own probability counts too."""
    module, images = operation(name), np.concatenate([photos[:, ::3, ::3]] * 16)
    sizes = []
    for strength in (0.0, 0.25, 0.5, 0.75, 1.0):
        policy = policy_of(name, module.at_strength(strength))
        sizes.append(np.abs(policy(images, seeds(64)).numpy() - images).mean())
    assert sizes == sorted(sizes)
    assert sizes[0] == 0
    assert min(np.diff(sizes)) > 0


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("name", NAMES)
def test_tiny_images_are_accepted(name, size):
    layer, transformations = layer_and_params(name, 1.0, noise(size=size))
    images = layer.augment_images(tf.constant(noise(size=size)), transformations=transformations)
    assert images.shape == (8, size, size, 3)
    assert np.isfinite(images).all()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in COMPILED else pytest.mark.slow) for name in NAMES]
)
def test_compiled_layer_equals_eager_layer(name, photos):
    """Thresholded operations may differ in one pixel of a thousand."""
    assert operation(name).COMPILES
    layer, transformations = layer_and_params(name, 1.0, photos)

    @tf.function(jit_compile=True)
    def compiled(images, transformations):
        return layer.augment_images(images, transformations=transformations)

    eager = layer.augment_images(tf.constant(photos), transformations=transformations)
    gap = np.abs(compiled(tf.constant(photos), transformations).numpy() - eager.numpy())
    assert (gap > NEAR).mean() <= (0.001 if name in {"posterization", "solarization"} else 0)


@pytest.mark.parametrize("name", WITHOUT_ADDED_COLOR)
def test_gray_images_stay_gray(name):
    gray = np.repeat(noise(channels=1), 3, axis=-1)
    policy = policy_of(name, operation(name).at_strength(1.0))
    after = policy(gray, seeds(8)).numpy()
    assert np.ptp(after, axis=-1).max() < 1e-3


@pytest.mark.parametrize("name", KEEPS_GRAY_BYTES)
def test_gray_images_keep_their_bytes(name):
    gray = np.repeat(noise(channels=1), 3, axis=-1)
    policy = policy_of(name, operation(name).at_strength(1.0), exact=False)
    assert policy(gray, seeds(8)).numpy().tobytes() == gray.tobytes()


@pytest.mark.parametrize("name", KEEPS_CONSTANT_IMAGES)
def test_constant_images_keep_their_bytes(name):
    levels = np.array([0.0, 0.1, 100.3, 255.0] * 2, np.float32)
    constant = np.broadcast_to(levels[:, None, None, None], (8, 16, 16, 3))
    policy = policy_of(name, operation(name).at_strength(1.0), exact=False)
    assert policy(constant, seeds(8)).numpy().tobytes() == constant.tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_parameters_depend_on_the_image_shape_only(name):
    module, tables = operation(name), []
    for images in (noise(), noise() * 0):
        layer = module.build_layer(module.at_strength(1.0), dtype="float32", seed=1)
        params = layer.get_random_transformation_batch(8, images=tf.constant(images))
        tables.append([tf.shape(part).numpy().tolist() for part in tf.nest.flatten(params)])
    assert tables[0] == tables[1]
    assert all(shape[0] == 8 for shape in tables[0])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("posterization", {"min_bits": 0}, "min_bits: must be an integer from 1 to 8"),
        ("solarization", {"min_threshold": 256}, "from 0 to 255, got 256"),
        ("random_gaussian_blur", {"max_sigma_px": 21}, "from 0 to 20"),
        ("random_sharpness", {"max_fraction": 0.1, "direction": "up"}, "must be 'both', 'sharper'"),
        ("random_color_jitter", {"max_hue_deg": -1}, "max_hue_deg: must be a number from 0"),
    ],
)
def test_invalid_option_is_refused_with_the_allowed_values(name, options, message):
    from kerastl.errors import Problems

    with pytest.raises(Problems, match=message):
        build_policy([{"name": name, **options}], image_size_px=16)


def test_channel_shuffle_draws_all_orders_equally_often():
    """Of 600; allowed: five standard errors."""
    images = np.repeat(noise(count=1, size=4), 600, axis=0)
    after = changed("channel_shuffle", images)
    orders = list(itertools.permutations(range(3)))
    counts = [(after == images[..., order]).all(axis=(1, 2, 3)).sum() for order in orders]
    assert sum(counts) == 600
    assert np.abs(np.array(counts) - 100).max() < 5 * np.sqrt(600 / 6 * 5 / 6)


@pytest.mark.parametrize("channels", [1, 3])
def test_channel_shift_adds_one_number_to_each_channel(channels):
    gray = np.full((200, 4, 4, channels), 127.0, np.float32)
    after = changed("random_channel_shift", gray, max_fraction=0.4) - 127
    assert np.ptp(after, axis=(1, 2)).max() == 0
    shifts = after[:, 0, 0]
    assert np.abs(shifts).max() <= 0.4 * 255
    assert shifts.max() > 0.38 * 255
    assert shifts.min() < -0.38 * 255
    if channels == 3:
        # Five standard errors of a correlation of 200 pairs are 0.35.
        others = np.corrcoef(shifts.T)[np.triu_indices(3, 1)]
        sizes = np.corrcoef(np.abs(shifts).T)[np.triu_indices(3, 1)]
        assert np.abs([*others, *sizes]).max() < 0.35


def test_channel_shift_equals_keras_cv(photos):
    shifts = np.random.default_rng(4).uniform(-60, 60, (4, 1, 1, 3)).astype(np.float32)
    layer = layer_of("random_channel_shift", max_fraction=0.5)
    ours = layer.augment_images(tf.constant(photos), transformations={"shifts": shifts})
    theirs = layers.RandomChannelShift(value_range=(0, 255), factor=0.5)
    for mine, image, shift in zip(ours.numpy(), photos, shifts, strict=True):
        other = theirs.augment_image(tf.constant(image), transformation=list(shift[0, 0] / 255))
        np.testing.assert_allclose(mine, other, atol=NEAR)


def test_grayscale_equals_pillow(photos):
    for image, gray in zip(photos, changed("grayscale", photos), strict=True):
        assert np.ptp(gray, axis=-1).max() == 0
        theirs = np.asarray(as_pillow(image).convert("L"), np.float32)
        # Pillow cuts or rounds to whole levels.
        assert np.abs(gray[..., 0] - theirs).max() <= 1


def test_grayscale_equals_keras_cv_up_to_its_luma_weights(photos):
    theirs = layers.Grayscale(output_channels=3).augment_images(tf.constant(photos)).numpy()
    ours = changed("grayscale", photos)
    assert np.abs(ours - theirs).max() < 1e-4 * 255 + 1e-3
    assert (ours >= theirs - 1e-4).all()


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_color_degeneration_equals_pillow_color_with_factor_1_minus_weight(share, photos):
    """And that of keras-cv but for its darker gray."""
    layer = layer_of("random_color_degeneration", max_fraction=1.0)
    ours = layer.augment_images(tf.constant(photos), per_image([share])).numpy()
    theirs = layers.RandomColorDegeneration(1.0).augment_images(tf.constant(photos), per_image([share]))
    assert np.abs(ours - theirs).max() < 1e-4 * 255 + 1e-3
    for image, mine in zip(photos, ours, strict=True):
        pillow = ImageEnhance.Color(as_pillow(image)).enhance(1 - share)
        assert np.abs(np.asarray(pillow) - mine).max() <= 1.51


def test_color_degeneration_keeps_luma_and_draws_weights_up_to_the_maximum():
    images = np.repeat(noise(count=1), 64, axis=0)
    after = changed("random_color_degeneration", images, max_fraction=0.6)
    weights = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(after @ weights, images @ weights, atol=1e-3)
    left = np.ptp(after, axis=-1) / np.ptp(images, axis=-1)
    assert np.ptp(left, axis=(1, 2)).max() < 1e-3
    assert 0.4 - 1e-3 <= left.min() < 0.45
    assert 0.95 < left.max() <= 1

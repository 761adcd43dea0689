"""Faults of the container layers of keras-cv 0.9.0. A test fails once a release fixes its fault."""

import numpy as np
import pytest
import tensorflow as tf
from keras_cv import layers

pytestmark = pytest.mark.slow
"""keras-cv is pinned, so the default lane does not need them."""

SIZE = 33


def image():
    return np.random.default_rng(0).uniform(0, 255, (SIZE, SIZE, 3)).astype(np.float32)


def test_keras_cv_s_rand_augment_changes_images_at_magnitude_0():
    tf.random.set_seed(1)
    rand = layers.RandAugment((0, 255), augmentations_per_image=1, magnitude=0.0, seed=1)
    images = np.stack([image()] * 8)
    assert np.abs(rand(images).numpy() - images).max() > 10


def test_keras_cv_s_aug_mix_rotates_by_nine_radians_at_its_default_severity():
    """The reference implementation rotates by at most 9 degrees."""
    dot = np.zeros((SIZE, SIZE, 1), np.float32)
    middle = SIZE // 2
    dot[middle, middle + 10] = 255
    turned = layers.AugMix((0, 255), severity=(0.3, 0.3))._rotate(tf.constant(dot)).numpy()
    y, x = np.argwhere(turned[..., 0] > 60).mean(axis=0) - middle
    # Rows count down, so that a counterclockwise rotation by 9 radians gives the angle -9.
    rotation = np.arctan2(y, x)
    apart = min(abs((rotation - angle + np.pi) % (2 * np.pi) - np.pi) for angle in (9.0, -9.0))
    assert apart < 0.1
    assert abs(rotation) > np.deg2rad(100)


def test_keras_cv_s_aug_mix_never_draws_its_last_operation(monkeypatch):
    mix = layers.AugMix((0, 255), seed=1)
    params = []
    monkeypatch.setattr(mix, "_apply_op", lambda image, number: params.append(int(number)) or image)
    for _ in range(400):
        mix._loop_on_depth(tf.constant([0]), tf.constant(image()))
    # It has nine, 0 to 8; that one of nine is missed in 400 draws has a chance of 1e-20.
    assert set(params) == set(range(8))


def test_keras_cv_s_aug_mix_draws_weights_independently_of_its_seed():
    first, second = (
        layers.AugMix((0, 255), seed=3).get_random_transformation()["chain_mixing_weights"] for _ in range(2)
    )
    assert np.abs(first.numpy() - second.numpy()).max() > 1e-3


def test_keras_cv_s_random_choice_fails_on_integer_labels():
    choice = layers.RandomChoice([layers.RandomFlip("horizontal"), layers.AutoContrast((0, 255))])
    images = np.stack([image()] * 4)
    with pytest.raises(Exception, match=r"(?i)dtype|type"):
        choice({"images": images, "labels": np.arange(4, dtype=np.int64)})

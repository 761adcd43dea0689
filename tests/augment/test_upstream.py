"""Faults of keras-cv that are worked around. A test fails once a release fixes its fault."""

import numpy as np
import pytest
import tensorflow as tf
from keras_cv import layers

pytestmark = pytest.mark.slow
"""keras-cv is pinned, so the default lane does not need them."""


def test_keras_cv_is_not_reproducible_with_a_seed():
    """This is why its generators are replaced."""
    from keras_cv import layers

    image = np.full((1, 8, 8, 3), 100.0, np.float32)
    images = [np.asarray(layers.RandomBrightness((-0.5, 0.5), seed=3)(image)).tobytes() for _ in range(4)]
    assert len(set(images)) > 1


def test_two_layers_of_keras_cv_with_one_seed_draw_the_same_numbers():
    """Angle and zoom of every image would go together."""
    turn, zoom = layers.RandomRotation(0.5, seed=3), layers.RandomZoom(0.5, seed=3)
    angles = turn.get_random_transformation_batch(50)["angles"].numpy()
    zooms = zoom.get_random_transformation_batch(50)["height_zooms"].numpy()[:, 0]
    assert np.corrcoef(angles, zooms)[0, 1] > 0.999


def test_keras_cv_uses_stateful_random_operations_in_a_map():
    from kerastl.testing.augmentation import stateful_random_operations

    layer = layers.RandomBrightness((-0.5, 0.5), seed=3)
    assert stateful_random_operations(lambda images, seeds: layer(images))


def test_full_saturation_of_keras_cv_gives_nan_on_gray_images():
    gray = np.full((1, 8, 8, 3), 100.0, np.float32)
    changed = layers.RandomSaturation((1.0, 1.0)).augment_images(gray, tf.constant([1.0]))
    assert np.isnan(changed.numpy()).any()


@pytest.mark.parametrize("rest", [1, 5])
def test_the_rotation_of_keras_cv_depends_on_the_batch(rest):
    """Why the sines and cosines of an angle are taken in whole vectors."""
    angles = np.linspace(-3, 3, 16 + rest).astype(np.float32)
    images = np.random.default_rng(0).uniform(0, 255, (16 + rest, 64, 64, 3)).astype(np.float32)
    layer = layers.RandomRotation(0.5)

    def turned(rows):
        return layer.augment_images(images[rows], {"angles": tf.constant(angles[rows])}).numpy()

    alone = np.concatenate([turned(slice(row, row + 1)) for row in range(16 + rest)])
    assert (alone != turned(slice(None))).any()
    assert np.abs(alone - turned(slice(None))).max() < 0.05

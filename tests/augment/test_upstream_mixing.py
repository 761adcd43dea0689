"""Faults of the mixing layers of keras-cv. A test fails once a release fixes its fault."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras_cv import layers

pytestmark = pytest.mark.slow
"""keras-cv is pinned, so the default lane does not need them."""

MIXINGS = [layers.MixUp, layers.CutMix, layers.FourierMix]


def flat(count, size=32):
    """Constant images, each of a different class."""
    levels = np.arange(1.0, count + 1, dtype=np.float32)
    images = np.broadcast_to(levels[:, None, None, None], (count, size, size, 3))
    return {"images": tf.constant(images), "labels": tf.eye(count)}


def own_shares(layer, count=64):
    """Return the share of each image's pixels that are still its own, and the label's weight for them."""
    mixed = layer(flat(count))
    kept = np.asarray(mixed["images"]) == flat(count)["images"].numpy()
    return kept.mean(axis=(1, 2, 3)), np.diag(np.asarray(mixed["labels"]))


@pytest.mark.parametrize("kind", MIXINGS)
def test_keras_cv_does_not_repeat_with_a_seed(kind):
    batches = [kind(seed=3)(flat(16))["labels"] for _ in range(4)]
    assert len({np.asarray(labels).tobytes() for labels in batches}) > 1


def test_keras_cv_s_cut_mix_label_is_not_the_visible_area():
    gaps = np.concatenate([np.abs(np.subtract(*own_shares(layers.CutMix()))) for _ in range(5)])
    assert 0.1 < gaps.mean() < 0.25
    assert gaps.max() > 0.4


@pytest.mark.parametrize("kind", MIXINGS)
def test_keras_cv_mixes_images_with_themselves(kind):
    """A random order leaves one in its place on average; here ten batches of four."""
    alone = 0
    for _ in range(10):
        labels = np.asarray(kind(alpha=5.0)(flat(4))["labels"])
        alone += int((np.count_nonzero(labels, axis=1) == 1).sum())
    assert alone > 0


@pytest.mark.parametrize("kind", [layers.MixUp, layers.FourierMix])
def test_keras_cv_averages_images_at_alpha_0(kind):
    """Both gamma draws are the smallest float32, and their ratio is 1, where Beta's limit is all or nothing."""
    labels = np.asarray(kind(alpha=0.0)(flat(32))["labels"])
    assert np.count_nonzero(labels == 0.5) > 32


@pytest.mark.parametrize("kind", [layers.CutMix, layers.FourierMix])
def test_keras_cv_cannot_mix_under_a_float16_policy(kind):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        with pytest.raises(tf.errors.InvalidArgumentError, match="bfloat16"):
            kind()(flat(4))
    finally:
        keras.config.set_dtype_policy("float32")


def test_a_float16_policy_rounds_the_images_and_the_labels_of_keras_cv_s_mix_up():
    images = tf.fill([4, 16, 16, 3], 200.5)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = layers.MixUp()({"images": images, "labels": tf.eye(4)})
    finally:
        keras.config.set_dtype_policy("float32")
    assert mixed["labels"].dtype.name == "bfloat16"
    assert abs(float(np.asarray(mixed["images"], np.float32)[0, 0, 0, 0]) - 200.5) >= 0.5


@pytest.mark.parametrize("kind", [layers.MixUp, layers.CutMix])
def test_keras_cv_refuses_integer_labels(kind):
    with pytest.raises(ValueError, match="float"):
        kind()({"images": tf.zeros([2, 8, 8, 3]), "labels": tf.constant([0, 1])})


def test_the_masks_of_keras_cv_s_fourier_mix_are_bands():
    """Its real and imaginary parts are two rows of the spectrum: across the image only frequencies 0 and 1 are left."""
    layer = layers.FourierMix()
    size = tf.constant([32, 32])
    masks = [layer._sample_mask_from_transform(1.0, size).numpy()[0] for _ in range(20)]
    power = (np.abs(np.fft.rfft2(masks)) ** 2).mean(axis=0)
    assert power[:, 2:].sum() < 1e-6 * power.sum()
    assert power[2:31, :2].sum() > 1e-3 * power[:, :2].sum()

"""JPEG is Pillow's. Statistical bounds: five standard errors."""

import io

import numpy as np
import pytest
import tensorflow as tf
from layer_helpers import PHOTO, built, by_pillow, changed
from PIL import Image

from kerastl import registry
from kerastl.augment.layers.color_layers import RandomJpegQuality


def jpeg(images, qualities):
    layer = RandomJpegQuality(1, seed=1)
    params = {"qualities": tf.constant(qualities)}
    return layer.augment_images(tf.constant(images, tf.float32), transformations=params).numpy()


@pytest.mark.parametrize("quality", [10, 50, 90])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_equals_pillow(quality, channels):
    """Both use the accurate transform and halve the colors; libraries may round otherwise."""

    def written(image):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality, subsampling="4:2:0")
        return Image.open(file)

    image = PHOTO[..., :channels]
    difference = jpeg(image[None], [quality])[0] - by_pillow(written, image)
    assert np.abs(difference).mean() < 0.2
    assert np.abs(image - by_pillow(written, image).astype(float)).mean() > 0.5


def test_quality_100_changes_no_byte():
    image = PHOTO[None] / np.float32(1.7)
    np.testing.assert_array_equal(jpeg(image, [100]), image)
    assert (jpeg(image, [99]) != image).any()


def test_lower_quality_changes_the_image_more():
    qualities = [100, 90, 70, 50, 30, 10, 1]
    off = jpeg(np.stack([PHOTO] * 7), qualities) - PHOTO.astype(np.float64)
    assert (np.diff(np.abs(off).mean(axis=(1, 2, 3))) > 0).all()


def test_levels_are_rounded_before_encoding():
    image = np.full((1, 16, 16, 3), 99.9, np.float32)
    np.testing.assert_array_equal(jpeg(image, [95]), 100.0)


@pytest.mark.parametrize("lowest", [1, 90, 99])
def test_qualities_from_the_minimum_to_100_are_drawn_equally_often(lowest):
    count, kinds = 5000, 101 - lowest
    params = built("random_jpeg_quality", count, min_quality=lowest).get_random_transformation_batch(
        count, images=None
    )
    counts = np.bincount(params["qualities"].numpy(), minlength=101)
    assert counts[:lowest].sum() == 0
    share = 1 / kinds
    assert (np.abs(counts[lowest:] - count * share) < 5 * np.sqrt(count * share)).all()


def test_jpeg_does_not_claim_to_compile():
    assert not hasattr(registry.module("operation", "random_jpeg_quality"), "COMPILES")


def test_gray_images_stay_gray():
    gray = np.repeat(PHOTO[None, :64, :64, :1], 3, axis=-1).astype(np.float32)
    after = changed("random_jpeg_quality", np.concatenate([gray] * 8))
    assert np.ptp(after, axis=-1).max() == 0
    assert (after != gray).any()

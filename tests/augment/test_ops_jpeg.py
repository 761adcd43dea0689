"""JPEG is Pillow's. Statistical bounds: five standard errors."""

import io

import numpy as np
import pytest
import tensorflow as tf
from masks_drawn import PHOTO, built, by_pillow, changed
from PIL import Image

from kerastl import registry
from kerastl.augment.layers.color_layers import RandomJpegQuality


def jpeg(images, qualities):
    layer = RandomJpegQuality(1, seed=1)
    drawn = {"qualities": tf.constant(qualities)}
    return layer.augment_images(tf.constant(images, tf.float32), transformations=drawn).numpy()


@pytest.mark.parametrize("quality", [10, 50, 90])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_what_pillow_writes_and_reads(quality, channels):
    """Both use the accurate transform and halve the colours; libraries may round otherwise."""

    def written(picture):
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality, subsampling="4:2:0")
        return Image.open(file)

    image = PHOTO[..., :channels]
    difference = jpeg(image[None], [quality])[0] - by_pillow(written, image)
    assert np.abs(difference).mean() < 0.2
    assert np.abs(image - by_pillow(written, image).astype(float)).mean() > 0.5


def test_quality_100_leaves_the_image_alone():
    image = PHOTO[None] / np.float32(1.7)
    np.testing.assert_array_equal(jpeg(image, [100]), image)
    assert (jpeg(image, [99]) != image).any()


def test_the_lower_the_quality_the_farther_from_the_image():
    qualities = [100, 90, 70, 50, 30, 10, 1]
    off = jpeg(np.stack([PHOTO] * 7), qualities) - PHOTO.astype(np.float64)
    assert (np.diff(np.abs(off).mean(axis=(1, 2, 3))) > 0).all()


def test_decimals_are_rounded_not_cut_off():
    image = np.full((1, 16, 16, 3), 99.9, np.float32)
    np.testing.assert_array_equal(jpeg(image, [95]), 100.0)


@pytest.mark.parametrize("lowest", [1, 90, 99])
def test_every_quality_from_the_lowest_to_100_is_drawn_equally_often(lowest):
    count, kinds = 5000, 101 - lowest
    drawn = built("random_jpeg_quality", count, min_quality=lowest).get_random_transformation_batch(
        count, images=None
    )
    counts = np.bincount(drawn["qualities"].numpy(), minlength=101)
    assert counts[:lowest].sum() == 0
    share = 1 / kinds
    assert (np.abs(counts[lowest:] - count * share) < 5 * np.sqrt(count * share)).all()


def test_jpeg_does_not_say_that_it_compiles():
    assert not hasattr(registry.module("operation", "random_jpeg_quality"), "COMPILES")


def test_a_grey_image_stays_grey():
    grey = np.repeat(PHOTO[None, :64, :64, :1], 3, axis=-1).astype(np.float32)
    after = changed("random_jpeg_quality", np.concatenate([grey] * 8))
    assert np.ptp(after, axis=-1).max() == 0
    assert (after != grey).any()

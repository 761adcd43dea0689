"""The rules by which images with a different aspect ratio are resized, compared with Pillow and integer arithmetic."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from resize_reference import by_pillow

from kerastl.data.decode import load_image, resize_image
from kerastl.errors import Problems
from kerastl.export.converted import resize_images

RULES = ("stretch", "pad", "crop")
SHAPES = [(1, 5000), (5000, 1), (1, 1), (2, 3), (37, 91), (95, 97), (48, 32)]
SIZES = [(32, 48), (33, 17)]


def noise(shape):
    return np.random.default_rng(sum(shape)).uniform(0, 255, (*shape, 3)).astype(np.float32)


@pytest.mark.parametrize("size", [0, -1, (0, 8), (8, 5000), 2.5])
def test_an_image_is_not_loaded_with_an_impossible_size(size):
    with pytest.raises(Problems, match=r"image_size_px.*: "):
        load_image(b"", image_size_px=size)


@pytest.mark.parametrize("rule", RULES)
def test_a_resized_image_is_that_of_pillow_in_float32(rule):
    for shape in SHAPES:
        for size in SIZES:
            image = noise(shape)
            expected = by_pillow(image, size, rule)
            np.testing.assert_allclose(resize_image(tf.constant(image), size, rule), expected, atol=0.01)
            # The matrix products by which converted models resize.
            inside = resize_images(tf.constant(image[None]), size, rule)[0]
            np.testing.assert_allclose(inside, expected, atol=0.01)


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.integers(1, 90)] * 2), st.tuples(*[st.integers(1, 60)] * 2))
def test_padding_keeps_the_aspect_ratio_in_the_center_of_black(shape, size):
    padded = resize_image(tf.fill([*shape, 3], 200.0), size, "pad").numpy()[..., 0]
    rows, columns = (np.flatnonzero(padded.any(axis=axis)) for axis in (1, 0))
    lengths = (rows.size, columns.size)
    assert (padded[np.ix_(rows, columns)] > 199).all(), "one rectangle"
    assert lengths[0] == size[0] or lengths[1] == size[1], "no larger image fits"
    for axis, (found, length) in enumerate(((rows, size[0]), (columns, size[1]))):
        assert length - 1 - found[-1] - found[0] in (0, 1), "the border is divided equally"
        other = size[1 - axis] / shape[1 - axis]
        assert abs(found.size - shape[axis] * other) <= 0.5 or found.size in (1, length)


def test_a_crop_shows_the_center_and_a_square_image_is_not_changed_by_the_rule():
    across = np.broadcast_to(np.arange(100, dtype=np.float32)[None, :, None], (10, 100, 3))
    cropped = resize_image(tf.constant(across.copy()), (10, 10), "crop").numpy()
    np.testing.assert_array_equal(cropped[0, :, 0], np.arange(45, 55))
    square = tf.constant(noise((40, 40)))
    first, *others = (resize_image(square, (16, 16), rule).numpy().tobytes() for rule in RULES)
    assert set(others) == {first}


def test_the_orientation_is_applied_before_the_rule(tmp_path):
    """A tall photo that is stored wide: padded left and right, not above and below."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 20), "white").save(tmp_path / "photo.png", exif=exif)
    content = (tmp_path / "photo.png").read_bytes()
    padded = load_image(tf.constant(content), image_size_px=30, resize="pad").numpy()
    assert padded.any(axis=(1, 2)).all()
    np.testing.assert_array_equal(np.flatnonzero(padded.any(axis=(0, 2))), np.arange(10, 20))


def test_padding_is_black_whatever_the_window(tmp_path):
    stored = np.full((8, 16), 3000, np.uint16)
    Image.fromarray(stored).save(tmp_path / "deep.png")
    content = (tmp_path / "deep.png").read_bytes()
    padded = load_image(tf.constant(content), image_size_px=16, resize="pad", window=(1000.0, 2000.0)).numpy()
    assert padded[4:12].min() == 255
    assert padded[:4].max() == padded[12:].max() == 0

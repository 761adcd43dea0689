"""Conversion to PNG: the same pixels as in Pillow, or a reason."""

import io

import numpy as np
import pytest
import tensorflow as tf
from make_images import LIMIT, decode_with_pillow, encoded, noise
from PIL import Image

from kerastl.data import decode_image
from kerastl.data.convert import UnreadableError, extension_of, no_pillow_warnings, read_image, to_decodable


def png_of(content: bytes, max_pixels: int = LIMIT) -> bytes:
    with no_pillow_warnings():
        png = to_decodable(content, max_pixels=max_pixels)
    assert png.startswith(b"\x89PNG")
    return png


def animated_webp() -> bytes:
    stream = io.BytesIO()
    frames = [Image.fromarray(noise(seed=seed)) for seed in range(2)]
    frames[0].save(stream, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    return stream.getvalue()


def run_length_bmp() -> bytes:
    """Eight rows of eight equal gray pixels, run-length encoded, the lowest row first."""
    rows = b"".join(bytes((8, 20 * row, 0, 0)) for row in range(8)) + b"\0\1"
    palette = b"".join(bytes((level, level, level, 0)) for level in range(256))
    header = np.array([40, 8, 8], "<u4").tobytes() + np.array([1, 8], "<u2").tobytes()
    header += np.array([1, len(rows), 2835, 2835, 256, 0], "<u4").tobytes()
    start = 14 + len(header) + len(palette)
    sizes = np.array([start + len(rows), 0, start], "<u4").tobytes()
    return b"BM" + sizes + header + palette + rows


RARE = {
    "page.tif": encoded(noise(), "TIFF"),
    "moving.webp": animated_webp(),
    "one_bit.bmp": encoded(noise(), "BMP", "1"),
    "run_length.bmp": run_length_bmp(),
}


def tiff(pixels, **options) -> bytes:
    return encoded(pixels, "TIFF", **options)


def test_tiff_is_converted_without_loss(checking):
    result = checking({"color.tif": tiff(noise()), "gray.tif": tiff(noise(channels=1))})
    assert result.quarantined == ()
    for record in result.collection.records:
        original = decode_with_pillow((result.collection.root / record.path).read_bytes())
        assert record.file.suffix == ".png"
        np.testing.assert_array_equal(decode_image(tf.constant(record.file.read_bytes())), original)


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bit_tiff_keeps_its_levels(order):
    levels = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
    stream = io.BytesIO()
    mode = "I;16" if order == "<" else "I;16B"
    Image.frombytes(mode, (30, 20), levels.astype(f"{order}u2").tobytes()).save(stream, "TIFF")
    png = png_of(stream.getvalue())
    stored = tf.io.decode_png(png, dtype=tf.uint16).numpy()[..., 0]
    np.testing.assert_array_equal(stored, levels)


def test_first_page_of_a_tiff_is_read():
    stream = io.BytesIO()
    pages = [Image.fromarray(noise(seed=seed)) for seed in range(3)]
    pages[0].save(stream, "TIFF", save_all=True, append_images=pages[1:])
    png = png_of(stream.getvalue())
    np.testing.assert_array_equal(decode_with_pillow(png), noise(seed=0))


def test_tiff_over_the_limit_is_rejected_before_decompression():
    content = tiff(np.zeros((300, 400), np.uint8), compression="tiff_lzw")
    with pytest.raises(UnreadableError, match="400 x 300 pixels"):
        png_of(content, max_pixels=400 * 300 - 1)
    assert decode_with_pillow(png_of(content, max_pixels=400 * 300)).shape == (300, 400, 3)


def test_floating_point_tiff_is_rejected():
    with pytest.raises(UnreadableError, match="floating-point"):
        png_of(tiff(np.ones((4, 4), np.float32)))


def test_truncated_tiff_is_reported_as_unreadable():
    content = tiff(noise(12, 9))
    refused = []
    for length in range(4, len(content) - 1, 7):
        try:
            png_of(content[:length])
        except UnreadableError as error:
            refused.append(error)
    assert len(refused) >= 50
    assert all(error.is_permanent for error in refused)


@pytest.mark.parametrize("name", RARE)
def test_training_and_prediction_read_converted_formats_equally(checking, name):
    result = checking({name: RARE[name]})
    assert result.quarantined == ()
    trained_on = result.collection.records[0].file.read_bytes()
    asked_for = read_image(result.collection.root / name, max_pixels=LIMIT)
    assert asked_for == trained_on
    np.testing.assert_array_equal(decode_image(tf.constant(asked_for)), decode_with_pillow(RARE[name]))


def test_run_length_encoded_bmp_is_converted():
    expected = np.repeat(np.arange(140, -1, -20), 8).reshape(8, 8)
    np.testing.assert_array_equal(decode_with_pillow(png_of(run_length_bmp()))[..., 0], expected)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
def test_supported_formats_are_not_converted(kind):
    content = encoded(noise(), kind)
    assert to_decodable(content, max_pixels=LIMIT) is content


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"])
def test_extension_follows_from_the_first_bytes(kind):
    extension = extension_of(encoded(noise(), kind))
    assert Image.registered_extensions()[f".{extension}"] == kind
    assert extension_of(b"hello, world") is None

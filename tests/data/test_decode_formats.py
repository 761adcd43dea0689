"""The decoder compared with Pillow: formats, bit depths, transparency and orientation."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from make_images import (
    FILES,
    NUMBERS,
    decode_with_pillow,
    decoded,
    encoded,
    exif_data,
    exif_directory,
    noise,
    smooth,
    upright_with_pillow,
    with_exif,
    with_orientation,
)
from PIL import Image

WINDOW = (1000, 5095)
"""One window for the file, because the decoder is traced for each. It maps 4,096 levels to 0 to 255."""


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_lossless_formats_are_decoded_exactly_like_pillow(kind, mode):
    content = encoded(noise(), kind, mode)
    if (kind, mode) == ("BMP", "1"):
        with pytest.raises(tf.errors.InvalidArgumentError, match="8, 24 or 32 bits"):
            decoded(content)
        return
    image = decoded(content)
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, decode_with_pillow(content))


def test_only_the_first_frame_of_a_gif_is_decoded():
    frames = [Image.fromarray(noise(seed=seed)).convert("P") for seed in range(4)]
    stream = io.BytesIO()
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    whole = stream.getvalue()
    np.testing.assert_array_equal(decoded(whole), decode_with_pillow(whole))
    # Everything behind the first frame is nonsense: a decoder that looks at it would fail.
    second = whole.index(b"\x21\xf9\x04", 13 + 768 + 40)
    np.testing.assert_array_equal(decoded(whole[:second] + b"\x99" * 50), decode_with_pillow(whole))


def test_lossless_webp_is_decoded_exactly_and_lossy_webp_closely():
    content = encoded(noise(), "WEBP", lossless=True)
    np.testing.assert_array_equal(decoded(content), decode_with_pillow(content))
    content = encoded(smooth(), "WEBP", quality=80)
    assert np.abs(decoded(content) - decode_with_pillow(content)).max() <= 2


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_is_within_two_levels_of_pillow(mode, progressive):
    content = encoded(smooth(), "JPEG", mode, quality=90, progressive=progressive)
    assert np.abs(decoded(content) - decode_with_pillow(content)).max() <= 2


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True, "exact": True})])
def test_transparency_is_composited_on_white(kind, options):
    content = encoded(noise(channels=4), kind, **options)
    layer = Image.open(io.BytesIO(content)).convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    expected = np.asarray(Image.alpha_composite(white, layer).convert("RGB"), np.float32)
    assert np.abs(decoded(content) - expected).max() <= 1


def test_single_transparent_color_of_a_png_becomes_white():
    pixels = noise()
    pixels[3, 4] = (1, 2, 3)
    content = encoded(pixels, "PNG", transparency=(1, 2, 3))
    image = decoded(content)
    np.testing.assert_array_equal(image[3, 4], [255, 255, 255])
    np.testing.assert_array_equal(image[0, 0], pixels[0, 0])


def test_16_bit_grayscale_keeps_all_levels():
    levels = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    image = decoded(encoded(levels + WINDOW[0]), window=WINDOW)
    assert len(np.unique(image)) == 4096
    np.testing.assert_allclose(image[..., 1], levels * (255 / 4095), atol=1e-4)


def test_values_outside_the_window_are_clipped():
    levels = np.array([[0, 1000, 1819, 5095, 65535]], np.uint16)
    image = decoded(encoded(levels), window=WINDOW)
    np.testing.assert_allclose(image[0, :, 0], [0, 0, 51, 255, 255])


def test_without_a_window_the_full_16_bit_range_is_used():
    levels = np.array([[0, 257, 65535]], np.uint16)
    np.testing.assert_allclose(decoded(encoded(levels))[0, :, 2], [0, 1, 255], atol=1e-4)


def test_eight_bit_images_ignore_the_window():
    content = encoded(noise())
    np.testing.assert_array_equal(decoded(content, window=WINDOW), decoded(content))


def test_16_bit_color_is_divided_by_257():
    pixels = np.random.default_rng(1).integers(0, 65536, (5, 7, 3), dtype=np.uint16)
    content = tf.io.encode_png(pixels).numpy()
    np.testing.assert_allclose(decoded(content), pixels / 257, rtol=1e-6)


def test_empty_window_is_rejected():
    with pytest.raises(ValueError, match="low < high"):
        decoded(encoded(noise()), window=(5, 5))


SHORT = 3
EXACT = {"JPEG": {"quality": 95}, "PNG": {}, "WEBP": {"lossless": True}}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.sampled_from(list(EXACT)),
    st.integers(0, 9),
    st.sampled_from("<>"),
    st.sampled_from(list(NUMBERS)),
    st.integers(1, 3),
    st.booleans(),
)
def test_exif_orientation_in_every_type_of_number_matches_pillow(
    kind, value, order, number, count, has_marker
):
    marker = b"Exif\0\0" if has_marker or kind == "JPEG" else b""
    exif = marker + exif_data(value, order, number, count)
    content = encoded(smooth(20, 30), kind, exif=exif, **EXACT[kind])
    assert_decoded_as_with_pillow(content, tolerance=2 if kind == "JPEG" else 0)


def assert_decoded_as_with_pillow(content, tolerance):
    image, expected = decoded(content), upright_with_pillow(content)
    assert image.shape == expected.shape
    assert np.abs(image - expected).max() <= tolerance


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from(list(NUMBERS)), st.integers(0, 2)),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from("<>"),
    st.sampled_from([b"", b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II\0\0", b"XX*\0"]),
    st.floats(0, 1),
)
def test_several_truncated_or_unusual_exif_directories_match_pillow(orientations, order, mark, share):
    if mark:
        order = ">" if mark[:1] == b"M" else "<"
    exif = exif_directory(orientations, order, mark)
    kept = len(exif) if share > 0.5 else 8 + int((len(exif) - 8) * 2 * share)
    content = with_exif(encoded(smooth(20, 30), "JPEG", quality=95), exif[:kept])
    assert_decoded_as_with_pillow(content, tolerance=2)


@pytest.mark.parametrize("exif_value", [None, 1, 3, 9])
@pytest.mark.parametrize(
    "text", ['<rdf:Description tiff:Orientation="{}"/>', "<tiff:Orientation>{}</tiff:Orientation>"]
)
@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_orientation_in_xmp_is_applied_if_exif_has_none(kind, text, exif_value):
    exif = exif_data(exif_value) if exif_value else b""
    exif = b"Exif\0\0" + exif if exif and kind == "JPEG" else exif
    for value in range(10):
        content = encoded(smooth(20, 30), kind, exif=exif, xmp=text.format(value).encode(), **EXACT[kind])
        assert_decoded_as_with_pillow(content, tolerance=2 if kind == "JPEG" else 0)


@pytest.mark.parametrize(
    "text", ["tiff:Orientation", 'tiff:Orientation="', 'tiff:Orientation="6', "tiff:Orientation>\n6"]
)
def test_incomplete_xmp_is_read_as_pillow_reads_it(text):
    content = encoded(smooth(20, 30), "JPEG", xmp=text.encode(), quality=95)
    assert_decoded_as_with_pillow(content, tolerance=2)


def test_exif_orientation_stored_as_a_32_bit_integer_is_applied():
    image = decoded((FILES / "jexif6_long_le.jpg").read_bytes())
    assert image.shape == (96, 64, 3)
    assert np.abs(image[2, 2] - (40, 60, 210)).max() <= 4


def test_exif_orientation_after_the_pixels_of_a_png_is_applied():
    name_and_data = b"eXIf" + exif_data(6)
    chunk = struct.pack(">I", len(name_and_data) - 4) + name_and_data
    chunk += struct.pack(">I", zlib.crc32(name_and_data))
    content = encoded(noise())
    content = content[:-12] + chunk + content[-12:]
    np.testing.assert_array_equal(decoded(content), upright_with_pillow(content))
    assert decoded(content).shape == (30, 20, 3)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_invalid_exif_orientation_is_ignored(value):
    plain = encoded(smooth(), "JPEG")
    np.testing.assert_array_equal(decoded(with_orientation(plain, value)), decoded(plain))


@pytest.mark.parametrize(
    "segment",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0XX*\0\x08\0\0\0",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
    ],
)
def test_damaged_exif_is_ignored(segment):
    plain = encoded(smooth(), "JPEG")
    broken = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + plain[2:]
    np.testing.assert_array_equal(decoded(broken), decoded(plain))

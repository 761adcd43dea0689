"""Files with wrong sizes, truncated and damaged files are rejected and never crash."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from make_images import KINDS, decoded, encoded, noise, png_of_any_size, smooth
from PIL import Image

LOW_LIMIT = 120 * 90
"""One limit for the file, because the decoder is traced for each."""


def test_image_of_144_million_pixels_is_rejected_before_decompression():
    content = png_of_any_size(12_000, 12_000, whole=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match="12000 x 12000 pixels"):
        decoded(content)
    assert decoded(png_of_any_size(120, 90, whole=True), max_pixels=LOW_LIMIT).shape == (90, 120, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"10801 x 1 pixels .* limit of 10800 pixels"):
        decoded(png_of_any_size(10_801, 1, whole=True), max_pixels=LOW_LIMIT)


def huge_headers() -> dict[str, bytes]:
    """Files with a valid header of 30,000 x 30,000 pixels but no pixels."""
    side = 30_000
    jpeg = bytearray(encoded(smooth(), "JPEG"))
    start = jpeg.index(b"\xff\xc0") + 5
    jpeg[start : start + 4] = struct.pack(">HH", side, side)
    gif = bytearray(encoded(noise(), "GIF", "P"))
    gif[6:10] = struct.pack("<HH", side, side)
    bmp = bytearray(encoded(noise(), "BMP"))
    bmp[18:26] = struct.pack("<ii", side, -side)
    extended = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (side - 1).to_bytes(3, "little") * 2
    lossless = b"VP8L" + struct.pack("<I", 9) + b"\x2f"
    lossless += ((14_999) | (14_999 << 14)).to_bytes(4, "little") + bytes(4)
    lossy = b"VP8 " + struct.pack("<I", 10) + b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 15_000, 15_000)

    def riff(chunk: bytes) -> bytes:
        return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk

    return {
        "png": png_of_any_size(side, side, whole=False),
        "jpeg": bytes(jpeg),
        "gif": bytes(gif),
        "bmp": bytes(bmp),
        "webp extended": riff(extended),
        "webp lossless": riff(lossless),
        "webp lossy": riff(lossy),
    }


@pytest.mark.parametrize("kind", huge_headers())
def test_every_format_is_rejected_by_the_size_in_its_header(kind):
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"(30000|15000) x (30000|15000) pixels"):
        decoded(huge_headers()[kind])


def test_gif_frame_larger_than_its_canvas_is_rejected():
    gif = bytearray(encoded(noise(), "GIF", "P"))
    frame = gif.index(b"\x2c", 13 + 768)
    gif[frame + 5 : frame + 9] = struct.pack("<HH", 30_000, 30_000)
    with pytest.raises(tf.errors.InvalidArgumentError, match="30000 x 30000 pixels"):
        decoded(bytes(gif))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not an image"),
        (b"P", "not an image"),
        (b"hello, world", "not an image"),
        (b"II*\0" + bytes(40), "TIFF"),
        (b"MM\0*" + bytes(40), "TIFF"),
    ],
)
def test_unsupported_files_are_rejected_with_the_reason(content, reason):
    with pytest.raises(tf.errors.InvalidArgumentError, match=reason):
        decoded(content)


def test_animated_webp_is_rejected():
    frames = [Image.fromarray(noise(seed=seed)) for seed in range(2)]
    stream = io.BytesIO()
    frames[0].save(stream, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match="animated WebP"):
        decoded(stream.getvalue())


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_files_raise_and_never_crash(kind):
    content = encoded(noise(12, 9), kind)
    for length in [*range(40), *range(40, len(content) - 40, max(1, len(content) // 40))]:
        with pytest.raises(tf.errors.InvalidArgumentError):
            decoded(content[:length])


@pytest.mark.parametrize("kind", KINDS)
def test_corrupted_files_decode_or_raise_and_never_crash(kind):
    content = np.frombuffer(encoded(noise(12, 9), kind), np.uint8)
    rng = np.random.default_rng(3)
    for _ in range(100):
        broken = content.copy()
        positions = rng.integers(0, min(len(broken), 64), 3)
        broken[positions] = rng.integers(0, 256, 3)
        try:
            image = decoded(broken.tobytes(), max_pixels=LOW_LIMIT)
        except tf.errors.InvalidArgumentError:
            continue
        assert image.ndim == 3
        assert image.shape[2] == 3

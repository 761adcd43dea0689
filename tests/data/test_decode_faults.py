"""Faults that are planted in files of every format: the right pixels, or a rejection, in training and in the served graph."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from make_gif import OTHER_PALETTE, PALETTE, Frame, compressed, gif
from make_images import LIMIT, decoded, encoded, noise
from PIL import Image

from kerastl.data.convert import UnreadableError, no_pillow_warnings, to_decodable


def on_white(content: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(content)).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return np.asarray(Image.alpha_composite(white, image).convert("RGB")).astype(np.float32)


def trained_on(content: bytes) -> np.ndarray:
    with no_pillow_warnings():
        return decoded(to_decodable(content, max_pixels=LIMIT))


def assert_rejected(content: bytes) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        decoded(content)
    with pytest.raises((tf.errors.InvalidArgumentError, UnreadableError)):
        trained_on(content)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


COLORS = noise(20, 30, 1, seed=5)
PIXELS = noise(40, 50)
ROWS = b"".join(b"\0" + row.tobytes() for row in PIXELS)
PNG = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 50, 40, 8, 2, 0, 0, 0))
PACKED, CODES = zlib.compress(ROWS), compressed(COLORS.ravel().tolist())
WEBP = encoded(PIXELS, "WEBP", lossless=True)
BMP = encoded(PIXELS, "BMP")


def truncated(name: str, share: float) -> bytes:
    """A file with a share of its pixels, up to .97, that ends as a complete file does."""
    length = int(share * len(WEBP) / 2) * 2
    return {
        "PNG, pixels cut": PNG + chunk(b"IDAT", PACKED[: int(share * 6000)]) + chunk(b"IEND", b""),
        "PNG, rows cut": PNG + chunk(b"IDAT", zlib.compress(ROWS[: int(share * len(ROWS))])) + chunk(b"IEND", b""),
        "PNG, zeros": PNG + chunk(b"IDAT", PACKED[: int(share * 6000)] + bytes(200)) + chunk(b"IEND", b""),
        "GIF, colors cut": gif(30, 20, Frame(COLORS)).replace(
            CODES, compressed(COLORS.ravel().tolist()[: int(share * 600)])
        ),
        "GIF, codes cut": gif(30, 20, Frame(COLORS))[: 800 + int(share * 600)] + b"\0\x3b",
        "WebP, size of the part": b"RIFF" + struct.pack("<I", length - 8) + WEBP[8:16] + struct.pack("<I", length - 20)
        + WEBP[20:length],
        "WebP, zeros": WEBP[: len(WEBP) - 70] + bytes(70),
        "BMP": BMP[: int(share * len(BMP))],
    }[name]  # fmt: skip


NAMES = [
    "PNG, pixels cut", "PNG, rows cut", "PNG, zeros", "GIF, colors cut", "GIF, codes cut", "WebP, size of the part",
    "WebP, zeros", "BMP",
]  # fmt: skip


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.sampled_from(NAMES), st.floats(0.1, 0.97))
def test_truncated_files_with_a_regular_end_are_rejected(name, share):
    assert_rejected(truncated(name, share))


COMPLETE = {
    "PNG": PNG + chunk(b"IDAT", zlib.compress(ROWS)) + chunk(b"IEND", b""),
    "GIF": gif(30, 20, Frame(COLORS)),
    "WebP": WEBP,
    "BMP": BMP,
    "gray BMP": encoded(COLORS, "BMP"),
}


@pytest.mark.parametrize("name", COMPLETE)
@pytest.mark.parametrize("behind", [b"", b"text" * 40, bytes(500), COMPLETE["PNG"], COMPLETE["GIF"]])
def test_data_behind_an_image_is_ignored(name, behind):
    content = COMPLETE[name]
    for image in (decoded(content + behind), trained_on(content + behind)):
        np.testing.assert_array_equal(image, on_white(content))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.sampled_from([None, 0, int(COLORS[0, 0]), 255]), st.booleans(), st.booleans(), st.booleans(),
    st.sampled_from([(0, 0, 30, 20), (0, 0, 29, 15), (0, 0, 0, 0), (7, 5, 50, 40), (0, 0, 31, 20), (1, 0, 30, 20)]),
)  # fmt: skip
def test_first_frame_of_a_gif_matches_pillow_or_is_rejected(
    transparent, has_shared, has_own, is_interlaced, layout
):
    left, top, width, height = layout
    own = OTHER_PALETTE if has_own or not has_shared else None
    first = Frame(COLORS, left, top, own, transparent, is_interlaced)
    content = gif(width, height, first, Frame(COLORS[::-1]), palette=PALETTE if has_shared else None)
    np.testing.assert_array_equal(trained_on(content), on_white(content))
    if (left, top) == (0, 0) and width <= 30 and height <= 20:
        np.testing.assert_array_equal(decoded(content), on_white(content))
    else:
        with pytest.raises(tf.errors.InvalidArgumentError, match="smaller than its canvas"):
            decoded(content)


@pytest.mark.parametrize("colors", [1, 16, 200, 256, 0])
def test_colors_beyond_the_palette_of_a_bmp_are_black(colors):
    used = colors or 256
    palette = np.random.default_rng(colors).integers(1, 256, (used, 4), dtype=np.uint8)
    rows = np.pad(COLORS[::-1], ((0, 0), (0, 2))).tobytes()
    start = 54 + palette.size
    content = b"BM" + struct.pack(
        "<IIIIiiHHIIiiII", start + len(rows), 0, start, 40, 30, 20, 1, 8, 0, 0, 0, 0, colors, 0
    )
    content += palette.tobytes() + rows
    expected = np.zeros((256, 3))
    expected[:used] = palette[:, 2::-1]
    np.testing.assert_array_equal(decoded(content), expected[COLORS])


def test_bmp_with_pixels_in_its_header_is_not_decoded_wrongly():
    content = BMP[:10] + bytes(4) + BMP[14:]
    np.testing.assert_array_equal(trained_on(content), PIXELS)
    with pytest.raises(tf.errors.InvalidArgumentError, match="BMP"):
        decoded(content)


def animated(kind: str, count: int, **options) -> bytes:
    first, *others = (Image.fromarray(noise(seed=seed)) for seed in range(count))
    stream = io.BytesIO()
    first.save(stream, kind, save_all=True, append_images=others, **options)
    return stream.getvalue()


def test_animations_are_counted_as_a_separate_kind(checking):
    kinds = ("GIF", "PNG", "WEBP", "AVIF")
    contents = {f"{kind}-{count}.{kind.lower()}": animated(kind, count) for kind in kinds for count in (1, 3)}
    result = checking(contents)
    assert result.quarantined == ()
    found = dict(zip((record.path for record in result.collection.records), result.checks, strict=True))
    for kind in kinds:
        assert found[f"{kind}-1.{kind.lower()}"].kind == kind.lower()
        assert found[f"{kind}-3.{kind.lower()}"].kind == f"animated {kind.lower()}"

"""Conversion to PNG: the same pixels as in Pillow, or a reason."""

import contextlib
import io
import re
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from make_images import (
    FILES,
    LIMIT,
    NUMBERS,
    decode_with_pillow,
    decoded,
    encoded,
    exif_data,
    noise,
    png_of_any_size,
    smooth,
    upright_with_pillow,
    with_orientation,
)
from make_tiff import directory, page, tiff
from PIL import Image

from kerastl.data import decode_image
from kerastl.data.convert import (
    UnreadableError,
    extension_of,
    format_of,
    no_pillow_warnings,
    read_image,
    to_decodable,
)


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


def tiff_of(pixels, **options) -> bytes:
    return encoded(pixels, "TIFF", **options)


def test_tiff_is_converted_without_loss(checking):
    result = checking({"color.tif": tiff_of(noise()), "gray.tif": tiff_of(noise(channels=1))})
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


def rows_of(pixels: np.ndarray, rows: int) -> list[bytes]:
    return [pixels[start : start + rows].tobytes() for start in range(0, len(pixels), rows)]


PHOTO, THUMBNAIL = noise(channels=1), noise(5, 8, channels=1)
WHOLE = page([PHOTO.tobytes()], width=30, height=20)
SMALL = {"strips": [THUMBNAIL.tobytes()], "width": 8, "height": 5}
REDUCED = page(**SMALL, tag_254=1)
IN_STRIPS = {"width": 30, "height": 20, "rows_per_strip": 5}


@pytest.mark.parametrize(
    "pages",
    [[WHOLE], [REDUCED, WHOLE], [WHOLE, REDUCED], [page(**SMALL, tag_255=2), REDUCED, WHOLE, REDUCED]],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_only_full_page_of_a_tiff_is_read(pages, order):
    np.testing.assert_array_equal(decode_with_pillow(png_of(tiff(*pages, order=order)))[..., 0], PHOTO)


def reason(content: bytes) -> str:
    with no_pillow_warnings(), pytest.raises(UnreadableError) as caught:
        to_decodable(content, max_pixels=LIMIT)
    assert caught.value.is_permanent
    return str(caught.value)


def with_full_image_below(thumbnail: dict) -> bytes:
    """A TIFF file whose thumbnail refers to a directory of its own with the full image."""
    thumbnail["entries"][330] = (4, [0])
    content = tiff(thumbnail)
    marked = content.replace(
        struct.pack("<HHII", 330, 4, 1, 0), struct.pack("<HHII", 330, 4, 1, len(content))
    )
    return marked + directory(WHOLE["entries"] | {273: (4, [8])}, len(content), "<", is_last=True)


@pytest.mark.parametrize(
    ("content", "number"),
    [
        (tiff_of(PHOTO, tiffinfo={32997: 4}), 4),
        (tiff_of(PHOTO, tiffinfo={270: "ImageJ=1.54f\nimages=7\nslices=7\n"}), 7),
        (tiff_of(PHOTO, tiffinfo={270: "ImageJ=1.54f\nimages=1\n"}), 1),
        (tiff_of(PHOTO, tiffinfo={270: "A photo.\nimages=3\n"}), 1),
        (with_full_image_below(page(**SMALL)), 2),
    ],
)
def test_images_in_one_page_of_a_tiff_are_counted(content, number):
    if number == 1:
        np.testing.assert_array_equal(decode_with_pillow(png_of(content))[..., 0], PHOTO)
    else:
        assert reason(content).startswith(f"the TIFF file has {number} pages")


def test_full_image_below_a_marked_thumbnail_is_rejected():
    assert "only a thumbnail" in reason(with_full_image_below(page(**SMALL, tag_254=1)))


def test_palette_of_a_tiff_with_8_bits_is_rejected():
    """TIFF palettes have 16 bits. Pillow divides by 256, so that all colors would be black."""
    colors = np.random.default_rng(0).integers(0, 256, 768)
    for scale in (1, 257):
        image = page([PHOTO.tobytes()], width=30, height=20, photometric=3)
        image["entries"][320] = (3, [int(color) * scale for color in colors])
        if scale == 1:
            assert "palette" in reason(tiff(image))
        else:
            np.testing.assert_array_equal(
                decode_with_pillow(png_of(tiff(image))), colors.reshape(3, 256).T[PHOTO]
            )


def test_strip_at_the_start_of_the_file_is_rejected():
    """The header would be read as pixels."""
    content = tiff(page(STRIPS, **IN_STRIPS))
    offsets = struct.pack("<4I", 8, 158, 308, 458)
    assert content.count(offsets) == 1
    assert reason(content.replace(offsets, struct.pack("<4I", 8, 158, 0, 458))) == "the file is truncated"


def test_tiff_with_several_pages_is_rejected():
    assert reason(tiff(WHOLE, WHOLE, REDUCED)).startswith("the TIFF file has 2 pages")
    assert "2 pages" in reason(tiff(page(**SMALL), WHOLE))
    assert "only a thumbnail" in reason(tiff(REDUCED))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.sampled_from([1, 2, 4, 8, 12, 16]),
    st.booleans(),
    st.booleans(),
    st.integers(1, 40),
    st.integers(1, 12),
    st.sampled_from([3, 12]),
)
def test_gray_tiff_of_any_bit_depth_is_read_correctly_or_rejected(
    bits, is_inverted, is_compressed, width, height, rows
):
    values = np.random.default_rng(width).integers(0, 2**bits, (height, width))
    numbers = [[f"{value:0{bits}b}" for value in row] for row in values]
    if bits == 16:
        packed = [row.astype("<u2").tobytes() for row in values]
    else:
        padded = ["".join(row).ljust(-(-width * bits // 8) * 8, "0") for row in numbers]
        packed = [int(row, 2).to_bytes(len(row) // 8, "big") for row in padded]
    strips = [b"".join(packed[start : start + rows]) for start in range(0, height, rows)]
    if is_compressed:
        strips = [zlib.compress(strip) for strip in strips]
    content = tiff(
        page(
            strips, width=width, height=height, bits=[bits], photometric=0 if is_inverted else 1,
            compression=8 if is_compressed else 1, rows_per_strip=rows,
        )
    )  # fmt: skip
    try:
        png = png_of(content)
    except UnreadableError:
        assert bits == 12
        return
    expected = 2**bits - 1 - values if is_inverted else values
    if bits in (12, 16):
        np.testing.assert_array_equal(tf.io.decode_png(png, dtype=tf.uint16).numpy()[..., 0], expected)
    else:
        np.testing.assert_array_equal(decode_with_pillow(png)[..., 0] * (2**bits - 1) / 255, expected)


COLOR = noise(seed=1)
PLANES = [COLOR[..., channel].tobytes() for channel in range(3)]
DEEP_PLANES = [(COLOR[..., channel] * np.uint16(257)).astype("<u2").tobytes() for channel in range(3)]


def test_channels_that_are_stored_separately_are_read_correctly_or_rejected():
    size = {"width": 30, "height": 20}
    rgb = page(PLANES, **size, bits=[8] * 3, photometric=2, planar=2)
    np.testing.assert_array_equal(decode_with_pillow(png_of(tiff(rgb))), COLOR)
    rejected = [
        (FILES / "rgb16_planar.tif").read_bytes(),
        tiff(page(DEEP_PLANES, **size, bits=[16] * 3, photometric=2, planar=2)),
        tiff(page(DEEP_PLANES, **size, bits=[16] * 3, photometric=2, planar=2), order=">"),
        tiff(page([zlib.compress(plane) for plane in DEEP_PLANES], **size, bits=[16] * 3, photometric=2, planar=2,
                  compression=8)),
        tiff(page(PLANES[:2], **size, bits=[8] * 2, planar=2, tag_338=2)),
        tiff(page(PLANES, **size, bits=[8] * 3, photometric=8, planar=2)),
    ]  # fmt: skip
    assert {reason(content) for content in rejected} == {
        "the TIFF file stores its channels separately. Convert it to PNG"
    }


def test_signed_and_floating_point_gray_images_are_rejected():
    size = {"width": 30, "height": 20}
    assert "signed" in reason(tiff(page([bytes([200]) * 600], **size, tag_339=2)))
    positive = np.arange(600, dtype=">i2").reshape(20, 30).tobytes()
    compressed = page([zlib.compress(positive)], **size, bits=[16], compression=8, tag_339=2)
    assert "signed" in reason(tiff(compressed, order=">"))
    below_zero = np.full(600, -5, "<i2").tobytes()
    assert "negative" in reason(tiff(page([below_zero], **size, bits=[16], tag_339=2)))
    assert "floating-point" in reason(tiff_of(np.ones((4, 4), np.float32)))


STRIPS = rows_of(PHOTO, 5)
PACKED = [zlib.compress(strip) for strip in STRIPS]
INCOMPLETE = {
    "missing strips": (STRIPS[:2], 1),
    "missing compressed strips": (PACKED[:3], 8),
    "empty strips": ([*STRIPS[:2], b"", b""], 1),
    "empty compressed strips": ([*PACKED[:2], b"", b""], 8),
    "a short strip": ([*STRIPS[:2], STRIPS[2][:50], STRIPS[3]], 1),
    "a short compressed strip": ([*PACKED[:3], zlib.compress(STRIPS[3][:50])], 8),
    "a cut compressed strip": ([*PACKED[:3], PACKED[3][:60]], 8),
    "zeros in place of data": ([*PACKED[:3], PACKED[3][:60] + bytes(80)], 8),
    "zeros in a fax": ([encoded(PHOTO, "TIFF", "1", compression="group4")[8:60] + bytes(90)], 4),
}


@pytest.mark.parametrize("name", INCOMPLETE)
def test_tiff_with_missing_pixels_is_rejected(name):
    strips, compression = INCOMPLETE[name]
    bits = [1] if compression == 4 else [8]
    rows = 20 if compression == 4 else 5
    whole = {"width": 30, "height": 20, "rows_per_strip": rows, "bits": bits, "compression": compression}
    assert re.search("truncated|damaged", reason(tiff(page(strips, **whole))))


def test_jpeg_in_tiff_with_missing_pixels_is_rejected():
    content = encoded(smooth(80, 120), "TIFF", compression="jpeg", quality=95)
    assert decode_with_pillow(png_of(content)).shape == (80, 120, 3)
    start = content.find(b"\xff\xda")
    end = content.find(b"\xff\xd9", start)
    middle = (start + end) // 2
    cut = content[:middle] + b"\xff\xd9" + b"\x55" * (end - middle) + content[end + 2 :]
    assert len(cut) == len(content)
    assert "truncated" in reason(cut)


def test_tiff_over_the_limit_is_rejected_before_decompression():
    content = tiff_of(np.zeros((300, 400), np.uint8), compression="tiff_lzw")
    with pytest.raises(UnreadableError, match="400 x 300 pixels"):
        png_of(content, max_pixels=400 * 300 - 1)
    assert decode_with_pillow(png_of(content, max_pixels=400 * 300)).shape == (300, 400, 3)


def test_truncated_tiff_is_reported_as_unreadable():
    content = tiff_of(noise(12, 9))
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


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_heic_and_avif_are_read_upright(kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = smooth(40, 60)
    stream = io.BytesIO()
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").from_pillow(Image.fromarray(pixels)).save(
            stream, exif=exif.tobytes(), quality=95
        )
    else:
        Image.fromarray(pixels).save(stream, "AVIF", exif=exif, quality=95)
    image = decoded(png_of(stream.getvalue()))
    assert image.shape == (60, 40, 3)
    assert np.abs(image - np.rot90(pixels, -1)).max() <= 12
    content = stream.getvalue()
    for length in (len(content) // 2, len(content) - 20):
        assert re.search("damaged|truncated", reason(content[:length]))
        assert re.search("damaged|truncated", reason(content[:length] + bytes(64)))


def brand(name: bytes) -> bytes:
    return struct.pack(">I", 24) + b"ftyp" + b"mif1" + bytes(4) + b"mif1" + name + bytes(200)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bytes(128) + b"DICM" + bytes(50), "DICOM is not supported: convert to PNG"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(50), "JPEG 2000 is not supported: convert to PNG"),
        (b"\xff\x4f\xff\x51" + bytes(50), "JPEG 2000 is not supported: convert to PNG"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50), "JPEG XL is not supported: convert to PNG"),
        (brand(b"heic"), "HEIC is not supported: convert to JPEG or install kerastl[heic]"),
    ],
)
def test_unsupported_formats_are_rejected_by_name(content, message, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert reason(content) == message


def test_formats_are_recognized_by_content():
    assert format_of(brand(b"heic")) == "HEIC"
    assert format_of(brand(b"avif")) == "AVIF"
    assert format_of(brand(b"isom")) is None
    assert format_of(b"BMW is a car maker, and this is a text.") is None
    assert format_of(b"") is None


def jpeg(**options) -> bytes:
    return encoded(smooth(80, 120) // 2 + noise(80, 120) // 2, "JPEG", **({"quality": 90} | options))


END = b"\xff\xd9"
WRITERS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "with restart markers": {"restart_marker_rows": 1},
    "without subsampling": {"subsampling": 0},
    "grayscale": {"mode": "L"},
    "CMYK": {"mode": "CMYK"},
}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.sampled_from(list(WRITERS)), st.floats(0.35, 0.97), st.sampled_from(["", "end", "zeros", "restart"])
)
def test_jpeg_with_missing_pixels_is_rejected(name, fraction, ending):
    whole = jpeg(**WRITERS[name])
    length = int(len(whole) * fraction)
    if ending == "restart":
        length = whole.rfind(b"\xff\xd1", 0, length)
        if length < 0:
            return
    end = {"": b"", "zeros": bytes(len(whole) - length - 2) + END}.get(ending, END)
    assert reason(whole[:length] + end) in {
        "the file is truncated",
        "the file is damaged: some of its pixels cannot be decoded",
    }


@pytest.mark.parametrize(
    "options", [{}, {"mode": "L"}, {"mode": "CMYK"}, {"quality": 30}, {"subsampling": 0}]
)
def test_progressive_jpeg_with_missing_scans_is_rejected(options):
    whole = jpeg(progressive=True, **options)
    scans = [match.start() for match in re.finditer(rb"\xff[\xc4\xda]", whole)]
    first = whole.index(b"\xff\xda")
    later = [start for start in scans if start > first]
    assert len(later) >= 5
    assert {reason(whole[:start] + END) for start in later} == {"the file is truncated"}
    # A second image, as in files of two-lens cameras, is not searched for the missing scans.
    assert reason(whole[: later[-1]] + END + whole) == "the file is truncated"


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "4:1:1"])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [True, False])
def test_jpeg_with_any_subsampling_is_accepted_if_it_is_complete(mode, subsampling, progressive):
    content = jpeg(mode=mode, subsampling=subsampling, progressive=progressive)
    assert to_decodable(content, max_pixels=LIMIT) is content
    assert reason(content[: len(content) * 2 // 3] + END) == "the file is truncated"


def lossless_jpeg(height: int, width: int, precision: int) -> bytes:
    """A lossless JPEG of one gray level: every difference to the predicted level is 0, a single bit."""
    frame = struct.pack(">BHHB3B", precision, height, width, 1, 1, 0x11, 0)
    table = b"\0" + bytes([1] + [0] * 15) + b"\0"
    scan = bytes([1, 1, 0, 1, 0, 0])
    parts = [(b"\xff\xc3", frame), (b"\xff\xc4", table), (b"\xff\xda", scan)]
    segments = b"".join(marker + struct.pack(">H", len(data) + 2) + data for marker, data in parts)
    return b"\xff\xd8" + segments + bytes(-(-height * width // 8)) + END


@pytest.mark.parametrize("precision", [8, 12, 16])
def test_lossless_jpeg_is_rejected(precision):
    for height, width in ((8, 8), (201, 303), (1, 900)):
        assert "lossless" in reason(lossless_jpeg(height, width, precision))


@pytest.mark.parametrize("marker", [0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF])
def test_unusual_kinds_of_jpeg_are_rejected(marker):
    content = jpeg().replace(b"\xff\xc0\0\x11\x08", bytes([0xFF, marker, 0, 0x11, 8]))
    assert "hierarchical" in reason(content)
    # A marker without a segment does not hide the frame.
    assert "hierarchical" in reason(content[:2] + b"\xff\x01" + content[2:])


def test_jpeg_of_12_bits_is_rejected():
    assert "12-bit" in reason(jpeg().replace(b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c"))


def test_jpeg_that_lost_its_second_half_is_rejected(checking):
    content = (FILES / "jcut_eoi.jpg").read_bytes()
    whole = jpeg()
    result = checking({"cut.jpg": content, "whole.jpg": whole})
    assert result.quarantined == (("cut.jpg", "the file is truncated"),)
    with pytest.raises(tf.errors.InvalidArgumentError, match="truncated"):
        decode_image(content)


@pytest.mark.parametrize("name", WRITERS)
def test_complete_jpeg_with_padding_or_other_data_at_its_end_is_accepted(name):
    whole = jpeg(**WRITERS[name])
    padded = whole[:-2] + bytes(300) + END
    for content in (
        whole,
        padded,
        whole[:-2] + b"\x12\x34" + END,
        whole[:-2] + b"\xff" * 40 + END,
        whole + bytes(100),
        whole + jpeg(),
    ):
        assert to_decodable(content, max_pixels=LIMIT) is content


def xmp(value: int) -> bytes:
    return f'<x:xmpmeta><rdf:Description tiff:Orientation="{value}"/></x:xmpmeta>'.encode()


def with_text(content: bytes, keyword: bytes, text: bytes) -> bytes:
    """Return a PNG with a text chunk."""
    data = keyword + b"\0" + text
    chunk = struct.pack(">I", len(data)) + b"tEXt" + data + struct.pack(">I", zlib.crc32(b"tEXt" + data))
    return content[:33] + chunk + content[33:]


def stored_elsewhere(value: int) -> dict[str, bytes]:
    """Images with an orientation that the decoding graph does not read."""
    raw = b"Exif\0\0" + exif_data(value)
    profile = b"\nexif\n" + f"{len(raw):8}\n".encode() + raw.hex().encode() + b"\n"
    return {
        "raw profile in PNG": with_text(encoded(noise()), b"Raw profile type exif", profile),
        "text chunk exif in PNG": with_text(encoded(noise()), b"exif", exif_data(value)),
        "64-bit integer": with_orientation(jpeg(), value, kind=16),
        "EXIF without a flag in WebP": without_flag(
            encoded(noise(), "WEBP", lossless=True, exif=exif_data(value))
        ),
    }


def without_flag(webp: bytes) -> bytes:
    return webp[:20] + bytes([webp[20] & ~8]) + webp[21:]


@pytest.mark.parametrize("name", stored_elsewhere(6))
def test_orientation_that_only_pillow_reads_is_applied(name):
    for value in range(1, 10):
        content = stored_elsewhere(value)[name]
        image, expected = decoded(to_decodable(content, max_pixels=LIMIT)), upright_with_pillow(content)
        assert image.shape == expected.shape
        assert np.abs(image - expected).max() <= 2


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 9), st.sampled_from("<>"), st.sampled_from(list(NUMBERS)), st.integers(1, 3))
def test_any_exif_orientation_is_read_as_pillow_reads_it(value, order, kind, count):
    content = with_orientation(jpeg(quality=95), value, order, kind, count)
    with no_pillow_warnings():
        image, expected = decoded(to_decodable(content, max_pixels=LIMIT)), upright_with_pillow(content)
    assert image.shape == expected.shape
    assert np.abs(image - expected).max() <= 2


@pytest.mark.parametrize("value", range(1, 9))
def test_orientation_of_tiff_matches_pillow(value):
    content = tiff(page([PHOTO.tobytes()], width=30, height=20, tag_274=value))
    np.testing.assert_array_equal(decode_with_pillow(png_of(content)), upright_with_pillow(content))
    assert (decode_with_pillow(png_of(content)).shape[0] == 30) is (value >= 5)


def deep_color_png(pixels: np.ndarray) -> bytes:
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("highest", [255, 1023, 4095, 65535])
def test_16_bit_colors_with_fewer_bits_are_rejected(highest, channels):
    levels = np.random.default_rng(0).integers(0, highest + 1, (20, 30, channels)).astype("<u2")
    levels[..., 3:] = 65535
    png, tif = (
        deep_color_png(levels),
        tiff(page([levels.tobytes()], width=30, height=20, bits=[16] * channels, photometric=2)),
    )
    if highest < 8192:
        assert "16-bit colors use less than an eighth" in reason(png)
        assert reason(tif) == reason(png)
    else:
        assert to_decodable(png, max_pixels=LIMIT) is png
        assert channels == 4 or np.abs(decode_with_pillow(png_of(tif)) - levels / 257).max() <= 2


def test_orientation_in_text_of_16_bit_gray_with_alpha_is_rejected():
    """Pillow reads such images with 8 bits."""
    png = bytearray(deep_color_png(np.full((2, 3, 4), 4095)))
    png[19], png[25] = 6, 4  # twice the width, half of the channels
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    raw = b"Exif\0\0" + exif_data(6)
    profile = b"\nexif\n" + f"{len(raw):8}\n".encode() + raw.hex().encode() + b"\n"
    assert "text chunk" in reason(with_text(bytes(png), b"Raw profile type exif", profile))


def test_pixels_of_png_over_the_limit_are_not_decompressed(monkeypatch):
    large = png_of_any_size(5000, 5000, whole=True)
    marked = with_text(large, b"XML:com.adobe.xmp", xmp(6))
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda self: pytest.fail("decompressed"))
    assert to_decodable(marked, max_pixels=5000) is marked


@pytest.mark.parametrize("compression", [1, 7, 8])
def test_strips_that_overlap_are_rejected(compression):
    strips = [b"\x55" * 600] * 4
    content = tiff(page(strips, **IN_STRIPS, compression=compression))
    given = struct.pack("<4I", 600, 600, 600, 600)
    assert content.count(given) == 1
    overlapping = content.replace(given, struct.pack("<4I", *[2000] * 4))
    assert reason(overlapping) == "the file is truncated"


SEEDS = {
    "JPEG": jpeg(),
    "progressive JPEG": jpeg(progressive=True),
    "JPEG with EXIF": with_orientation(jpeg(), 6),
    "PNG with EXIF": encoded(noise(), "PNG", exif=exif_data(6)),
    "WebP with EXIF": encoded(noise(), "WEBP", exif=exif_data(6)),
    "TIFF": tiff(WHOLE, REDUCED),
    "compressed TIFF": tiff_of(noise(), compression="tiff_lzw"),
    "JPEG in TIFF": tiff_of(smooth(40, 60), compression="jpeg"),
    "AVIF": encoded(smooth(40, 60), "AVIF"),
}


@pytest.mark.parametrize("name", SEEDS)
def test_damaged_files_are_read_or_rejected_without_a_crash(name):
    generator = np.random.default_rng(0)
    for number in range(60):
        content = np.frombuffer(SEEDS[name], np.uint8).copy()
        places = generator.integers(0, min(len(content), 10 ** generator.integers(2, 6)), 1 + number % 8)
        content[places] = generator.choice([0, 1, 255, 0xC0, 0xC2, 0xD9, 0xDA], len(places))
        with no_pillow_warnings(), contextlib.suppress(UnreadableError):
            assert to_decodable(content.tobytes(), max_pixels=LIMIT)

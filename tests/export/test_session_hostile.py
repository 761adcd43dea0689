"""Hostile bytes through a TensorFlow session: it refuses them or predicts, and continues."""

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerastl.export._probe import ServingSession
from tests.export.conftest import CLASS_NAMES

BETWEEN = 40
"""The number of malicious inputs between two checks with a valid image."""
HUGE = 30_000


def written(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def seeds() -> dict[str, bytes]:
    """One small image of every kind, and of every way a PNG may be stored."""
    random = np.random.default_rng(11)
    colour = random.integers(0, 256, (12, 9, 3), dtype=np.uint8)
    alpha = random.integers(0, 256, (12, 9, 4), dtype=np.uint8)
    deep = random.integers(0, 65536, (12, 9), dtype=np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    palette = io.BytesIO()
    Image.fromarray(colour).quantize(16).save(palette, "PNG", transparency=3)
    return {
        "png": written(colour, "PNG"),
        "png with alpha": written(alpha, "PNG"),
        "png of 16 bits": written(deep, "PNG"),
        "png with a palette": palette.getvalue(),
        "jpeg": written(colour, "JPEG"),
        "jpeg with exif": written(colour, "JPEG", exif=exif),
        "progressive jpeg": written(colour, "JPEG", progressive=True),
        "grey jpeg": written(colour[..., 0], "JPEG"),
        "gif": written(colour, "GIF"),
        "bmp": written(colour, "BMP"),
        "bmp with a palette": written(colour[..., 0], "BMP"),
        "webp": written(colour, "WEBP"),
        "webp without loss": written(colour, "WEBP", lossless=True),
        "webp with alpha": written(alpha, "WEBP"),
    }


def hostile(content: bytes, random: np.random.Generator) -> Iterator[bytes]:
    """Yield one image cut short, with turned bits, with wrong bytes in front, with pieces twice or missing."""
    for length in random.integers(1, len(content), 8):
        yield content[:length]
    for number in range(14):
        broken = np.frombuffer(content, np.uint8).copy()
        # Half of the changes are in the header.
        end = min(64, len(broken)) if number % 2 else len(broken)
        positions = random.integers(0, end, 1 + number // 2)
        broken[positions] ^= np.uint8(1) << random.integers(0, 8, len(positions)).astype(np.uint8)
        yield broken.tobytes()
    for value in (0, 255):
        start = int(random.integers(4, min(40, len(content) - 4)))
        yield content[:start] + bytes([value]) * 4 + content[start + 4 :]
    cut = sorted(random.integers(0, len(content), 2))
    yield content[: cut[1]] + content[cut[0] :]
    yield content[: cut[0]] + content[cut[1] :]


def lying_headers(images: dict[str, bytes]) -> list[bytes]:
    """Small files with headers of 30,000 x 30,000, 0 x 0 or negative sizes."""
    files = []
    for side in (HUGE, 0, 2**31 - 1, 2**32 - 1):
        png = bytearray(images["png"])
        png[16:24] = struct.pack(">II", side, side)
        png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
        bmp = bytearray(images["bmp"])
        bmp[18:26] = struct.pack("<II", side, side)
        files += [bytes(png), bytes(bmp)]
        for name in ("jpeg", "progressive jpeg"):
            jpeg = bytearray(images[name])
            mark = b"\xff\xc0" if name == "jpeg" else b"\xff\xc2"
            start = jpeg.index(mark) + 5
            jpeg[start : start + 4] = struct.pack(">HH", side % 65536, side % 65536)
            files.append(bytes(jpeg))
        gif = bytearray(images["gif"])
        gif[6:10] = struct.pack("<HH", side % 65536, side % 65536)
        webp = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (side % 2**24).to_bytes(3, "little") * 2
        files += [bytes(gif), b"RIFF" + struct.pack("<I", len(webp) + 4) + b"WEBP" + webp]
    return files


def animation() -> bytes:
    """TensorFlow's decoder would write beyond its buffer."""
    frames = [Image.fromarray(np.full((9, 9, 3), grey, np.uint8)) for grey in (0, 90)]
    file = io.BytesIO()
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    return file.getvalue()


def inputs() -> list[bytes]:
    random = np.random.default_rng(2)
    images = seeds()
    files = [b"", b"\0", b"P", b"BM", b"GIF89a", b"\xff\xd8\xff", b"RIFF....WEBP", animation()]
    files += [random.bytes(int(size)) for size in random.integers(1, 3000, 20)]
    starts = [content[:12] for content in images.values()]
    files += [start + random.bytes(200) for start in starts]
    files += lying_headers(images)
    for content in images.values():
        files += hostile(content, random)
    return files


@pytest.mark.slow
def test_hostile_bytes_are_refused_or_predicted_and_do_not_affect_the_next_image(export: Path) -> None:
    good, wicked = list(seeds().values()), inputs()
    assert len(wicked) > 350
    batches = [[*good]]
    for start in range(0, len(wicked), BETWEEN):
        batches += [[content] for content in wicked[start : start + BETWEEN]]
        # One invalid image among valid ones, then only valid ones.
        batches += [[good[0], wicked[start], good[1]], [*good]]
    refused = 0
    with ServingSession(export) as session:

        def probabilities(files: list[bytes]) -> np.ndarray:
            return session.run("serving_default", {"image_bytes": files})["probabilities"]

        first = probabilities(good)
        assert np.isfinite(first).all()
        for files in batches:
            # Only INVALID_ARGUMENT may be raised: any other error, or a crash, fails the test.
            try:
                rows = probabilities(files)
            except tf.errors.InvalidArgumentError:
                assert files != good
                refused += 1
                continue
            assert rows.shape == (len(files), len(CLASS_NAMES))
            np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-5)
            if files == good:
                assert rows.tobytes() == first.tobytes()
    assert 200 < refused < len(batches)

"""Test images as arrays and as encoded bytes."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

LIMIT = 50_000_000
FILES = Path(__file__).parent / "files"
KINDS = ["PNG", "JPEG", "GIF", "BMP", "WEBP"]


def noise(height: int = 20, width: int = 30, channels: int = 3, seed: int = 0) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth(height: int = 60, width: int = 90) -> np.ndarray:
    """An image without sharp edges, which JPEG compresses with little error."""
    y, x = np.mgrid[0:height, 0:width]
    layers = [x * 255 / width, y * 255 / height, (x + y) * 255 / (width + height)]
    return np.stack(layers, -1).astype(np.uint8)


def encoded(pixels: np.ndarray, kind: str = "PNG", mode: str | None = None, **options) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(pixels) if mode is None else Image.fromarray(pixels).convert(mode)
    image.save(stream, kind, **options)
    return stream.getvalue()


def decode_with_pillow(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(np.float32)


def png_of_any_size(width: int, height: int, *, whole: bool) -> bytes:
    """A one-bit black PNG of any size. If not `whole`, it has a valid header but no pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width + 7) // 8 + 1) * height, 9) if whole else zlib.compress(b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def write(path: Path, pixels: np.ndarray, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(pixels, **options))
    return path


def uniform_image(level: int, size: int = 8) -> np.ndarray:
    return np.full((size, size, 3), level, np.uint8)


NUMBERS = {
    1: "B", 3: "H", 4: "I", 5: "II", 6: "b", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d", 13: "I", 16: "Q",
}  # fmt: skip
"""The `struct` format of each type of number of TIFF 6.0 and its supplements. Two letters are a fraction."""


def exif_data(value: int, order: str = "<", kind: int = 3, count: int = 1) -> bytes:
    """A TIFF header and a directory with the orientation in the given byte order and type."""
    return exif_directory([(value, kind, count)], order)


def exif_directory(orientations: list[tuple[int, int, int]], order: str = "<", mark: bytes = b"") -> bytes:
    """A TIFF header and a directory with an orientation for each (value, type, count)."""
    mark = mark or (b"II*\0" if order == "<" else b"MM\0*")
    entries, behind = b"", b""
    for value, kind, count in orientations:
        letters = NUMBERS[kind]
        numbers = [value, 1][: len(letters)] * count
        cell = values = struct.pack(f"{order}{letters * count}", *numbers)
        if len(values) > 4:
            cell = struct.pack(f"{order}I", 14 + 12 * len(orientations) + len(behind))
            behind += values
        entries += struct.pack(f"{order}HHI", 0x0112, kind, count) + cell.ljust(4, b"\0")
    return mark + struct.pack(f"{order}IH", 8, len(orientations)) + entries + bytes(4) + behind


def with_orientation(content: bytes, value: int, order: str = "<", kind: int = 3, count: int = 1) -> bytes:
    """Return a JPEG with an orientation in a first EXIF segment."""
    return with_exif(content, exif_data(value, order, kind, count))


def with_exif(content: bytes, exif: bytes) -> bytes:
    """Return a JPEG with a first EXIF segment."""
    segment = b"Exif\0\0" + exif
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + content[2:]


def upright_with_pillow(content: bytes) -> np.ndarray:
    with warnings.catch_warnings(action="ignore"):
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    return np.asarray(image.convert("RGB")).astype(np.float32)


def decoded(content: bytes, **options) -> np.ndarray:
    import tensorflow as tf

    from kerastl.data import decode_image

    return decode_image(tf.constant(content), **options).numpy()

"""Conversion of images that TensorFlow cannot decode (TIFF, animated WebP, some BMP) to PNG before training.

Pillow reads the first page or frame. EXIF orientation is applied, and 16-bit grayscale stays 16-bit.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath
from typing import Any, Literal

from kerastl.console import track
from kerastl.data.records import Record

IMAGE_EXTENSIONS = frozenset(["png", "jpg", "jpeg", "bmp", "gif", "webp", "tif", "tiff"])

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
STARTS = {
    b"\x89PNG": "png",
    b"\xff\xd8\xff": "jpg",
    b"GIF8": "gif",
    b"BM": "bmp",
    b"RIFF": "webp",
    **dict.fromkeys(TIFF_STARTS, "tif"),
}

# Upper bound of the file size per pixel: four uncompressed 16-bit channels.
BYTES_PER_PIXEL = 8
# Upper bound for color profiles, thumbnails and other metadata.
METADATA_BYTES = 64 * 2**20


def extension_of(content: bytes) -> str | None:
    """Return the usual extension of an image, without the dot, or None if the content is not a known image format."""
    return next((name for start, name in STARTS.items() if content.startswith(start)), None)


def has_image_name(name: str) -> bool:
    """Return whether a file name has an image extension."""
    return PurePath(name).suffix[1:].lower() in IMAGE_EXTENSIONS


NO_MEMORY = "not enough memory to decode it"


class UnreadableError(Exception):
    """A file cannot be read as an image. The message is the reason, without the file name.

    Attributes:
        is_permanent: Whether the same bytes always fail, so that the result can be cached. False for errors of the
            disk, memory or permissions.
    """

    is_permanent = False


class InvalidImageError(UnreadableError):
    """The bytes of a file are not an image that can be decoded."""

    is_permanent = True


HEADER_BYTES = 64
WHITE_IS_ZERO, PHOTOMETRIC = 0, 262  # TIFF 6.0, section 8: PhotometricInterpretation
ANIMATION = 0x02  # RFC 9649, section 2.7
FAST = 1  # PNG compression level

Kind = Literal["TIFF", "WEBP", "BMP"]


def format_to_convert(start: bytes) -> Kind | None:
    """Return the format of a file that must be converted, from its first 64 bytes or more, or None for other files."""
    if start.startswith(TIFF_STARTS):
        return "TIFF"
    if start[:4] == b"RIFF" and start[8:16] == b"WEBPVP8X" and start[20:21]:
        return "WEBP" if start[20] & ANIMATION else None
    if start[:2] == b"BM" and len(start) >= 34:
        header_size, bits, compression = struct.unpack_from("<I10xHI", start, 14)
        return None if header_size >= 40 and bits in (8, 24, 32) and not compression else "BMP"
    return None


def is_16_bit_gray(start: bytes) -> bool:
    """Return whether a file is a 16-bit grayscale PNG, from its first 64 bytes or more."""
    return start[:8] == b"\x89PNG\r\n\x1a\n" and start[24:25] == b"\x10" and start[25:26] in b"\0\4"


def no_pillow_warnings() -> warnings.catch_warnings[None]:
    """Suppress Pillow's warnings about large or unusual files.

    Warning filters are global to the process, so enter this context once, around all threads.
    """
    return warnings.catch_warnings(action="ignore", category=Warning)


def convert_to_png(content: bytes, kind: Kind, *, max_pixels: int) -> bytes:
    """Convert the bytes of an image file to the bytes of a PNG. Call it inside `no_pillow_warnings`.

    Raises:
        UnreadableError: The file is damaged, has more than `max_pixels` pixels, or Pillow does not support it.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=(kind,)) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise InvalidImageError(
                    f"{width} x {height} pixels (width x height) exceed the limit of {max_pixels} pixels"
                )
            return _as_png(image)
    except UnreadableError:
        raise
    except MemoryError as error:
        raise UnreadableError(NO_MEMORY) from error
    except Image.DecompressionBombError as error:
        raise InvalidImageError(f"the image exceeds the limit of {max_pixels} pixels") from error
    # Pillow raises many types of errors on damaged files: struct.error, KeyError, SyntaxError ...
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            # Only errors of the system have a number, e.g. too many open files. They are not permanent.
            raise UnreadableError(f"it cannot be converted: {error.strerror}") from error
        raise InvalidImageError(f"the {kind} file is damaged or not supported. Convert it to PNG") from error


def _as_png(image: Any) -> bytes:
    import numpy as np
    from PIL import Image, ImageOps

    tags = getattr(image, "tag_v2", {})
    inverted = tags.get(PHOTOMETRIC) == WHITE_IS_ZERO
    image.load()
    image = ImageOps.exif_transpose(image) or image
    if image.mode == "F":
        raise InvalidImageError("its pixels are floating-point numbers. Convert it to 16-bit grayscale PNG")
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.int64)
        if levels.min() < 0 or levels.max() > 65535:
            raise InvalidImageError("its gray levels exceed 16 bits. Convert it to 16-bit grayscale PNG")
        if inverted and image.mode != "I":
            levels = 65535 - levels
        image = Image.fromarray(levels.astype(np.uint16))
    elif image.mode in ("P", "PA", "LA", "La", "RGBa"):
        image = image.convert("RGBA")
    elif image.mode not in ("1", "L", "RGB", "RGBA"):
        image = image.convert("RGB")
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=FAST, exif=b"")
    return stream.getvalue()


def read_image(file: Path, *, max_pixels: int) -> bytes:
    """Read an image file. Formats that TensorFlow cannot decode are converted to PNG.

    Args:
        file: An image file.
        max_pixels: Maximum height times width.

    Raises:
        UnreadableError: The file is missing, empty, too large or damaged.
    """
    with no_pillow_warnings():
        return to_decodable(read_content(file, max_pixels=max_pixels), max_pixels=max_pixels)


def read_content(file: Path, *, max_pixels: int) -> bytes:
    """Read the bytes of a file.

    Raises:
        UnreadableError: The file is missing, too large for `max_pixels` pixels, or cannot be read.
    """
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableError("it is not a regular file")  # reading a named pipe would block
        if status.st_size > max_pixels * BYTES_PER_PIXEL + METADATA_BYTES:
            raise UnreadableError(
                f"it has {status.st_size:,} bytes, too many for an image of {max_pixels:,} pixels"
            )
        return file.read_bytes()
    except PermissionError as error:
        raise UnreadableError("permission denied") from error
    except FileNotFoundError as error:
        raise UnreadableError("the file does not exist") from error
    except OSError as error:
        raise UnreadableError(f"it cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise UnreadableError(NO_MEMORY) from error


def to_decodable(content: bytes, *, max_pixels: int) -> bytes:
    """Return the bytes unchanged, or as PNG if TensorFlow cannot decode them. Call it inside `no_pillow_warnings`.

    Raises:
        UnreadableError: The content is empty, or cannot be converted.
    """
    if not content:
        raise InvalidImageError("the file is empty")
    kind = format_to_convert(content)
    return content if kind is None else convert_to_png(content, kind, max_pixels=max_pixels)


LEVELS = 65536
LOW_FRACTION, HIGH_FRACTION = 0.005, 0.995
NUM_THREADS = min(8, os.cpu_count() or 1)


def auto_window(records: Sequence[Record]) -> tuple[float, float] | None:
    """Compute the 0.5 and 99.5 percentiles of the stored values of all 16-bit grayscale images.

    Args:
        records: Readable images of the training split. 8-bit images are ignored.

    Returns:
        `(low, high)` in stored values with low < high, or None without 16-bit grayscale images.
    """
    import numpy as np

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        histograms = pool.map(_histogram, [record.file for record in records])
        total = np.zeros(LEVELS, np.int64)
        for histogram in track(histograms, "computing the window", len(records)):
            if histogram is not None:
                total += histogram
    if not total.any():
        return None
    cumulative = np.cumsum(total) / total.sum()
    low = int(np.searchsorted(cumulative, LOW_FRACTION))
    high = int(np.searchsorted(cumulative, HIGH_FRACTION))
    # Constant images would give an empty window.
    return float(low), float(max(high, low + 1))


def _histogram(file: Path) -> Any:
    """Return the count of each stored value, `[65536]` int64, or None if the image is not 16-bit grayscale."""
    import numpy as np
    import tensorflow as tf

    content = file.read_bytes()
    if not is_16_bit_gray(content):
        return None
    pixels = tf.io.decode_png(content, channels=3, dtype=tf.uint16).numpy()[..., 0]
    return np.bincount(pixels.ravel(), minlength=LEVELS)

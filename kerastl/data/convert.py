"""Turn what TensorFlow cannot decode into PNG, once, before training: TIFF, animated WebP, rare BMP.

Pillow does it. Of a file with several pages or frames the first counts; orientation is applied; 16-bit
grey stays 16-bit grey.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal

import numpy as np

from kerastl.console import track
from kerastl.data.decode import decode_image
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

# A file can hardly be larger than its pixels, uncompressed, with four 16-bit channels.
BYTES_PER_PIXEL = 8
# Colour profiles, thumbnails and the like that a small image may carry.
METADATA_BYTES = 64 * 2**20


def extension_of(content: bytes) -> str | None:
    """Return the usual extension of an image, without the dot, from its first bytes; None: no such kind."""
    return next((name for start, name in STARTS.items() if content.startswith(start)), None)


def has_image_name(name: str) -> bool:
    """Say whether a file is an image by the extension of its name."""
    return PurePath(name).suffix[1:].lower() in IMAGE_EXTENSIONS


def largest_file_bytes(max_pixels: int) -> int:
    """Return how many bytes an image of `max_pixels` pixels may have; a larger file is not read."""
    return max_pixels * BYTES_PER_PIXEL + METADATA_BYTES


NO_MEMORY = "it needs more memory than there is"


class UnreadableError(Exception):
    """One file gives no image; the text says why, without the file's name.

    Args:
        reason: in words a person understands.
        lasting: the very same bytes will be refused again, so that the answer may be kept. False where the
            disk, the memory or a permission refused: that may be over by the next run.
    """

    def __init__(self, reason: str, *, is_permanent: bool = False) -> None:
        super().__init__(reason)
        self.is_permanent = is_permanent


HEADER_BYTES = 64
WHITE_IS_ZERO, PHOTOMETRIC = 0, 262  # TIFF 6.0, section 8: PhotometricInterpretation
ANIMATION = 0x02  # RFC 9649, section 2.7
FAST = 1  # PNG compression level

Kind = Literal["TIFF", "WEBP", "BMP"]


def format_to_convert(start: bytes) -> Kind | None:
    """Return what a file is, from its first 64 bytes, when TensorFlow cannot decode it; else None."""
    if start.startswith(TIFF_STARTS):
        return "TIFF"
    if start[:4] == b"RIFF" and start[8:16] == b"WEBPVP8X" and start[20:21]:
        return "WEBP" if start[20] & ANIMATION else None
    if start[:2] == b"BM" and len(start) >= 34:
        header_size, bits, compression = (
            *struct.unpack_from("<I", start, 14),
            *struct.unpack_from("<H", start, 28),
            *struct.unpack_from("<I", start, 30),
        )
        return None if header_size >= 40 and bits in (8, 24, 32) and not compression else "BMP"
    return None


def is_16_bit_gray(start: bytes) -> bool:
    """Say from the first 64 bytes whether a file is a 16-bit grey PNG, with or without alpha."""
    return start[:8] == b"\x89PNG\r\n\x1a\n" and start[24:25] == b"\x10" and start[25:26] in b"\0\4"


def no_pillow_warnings() -> warnings.catch_warnings[None]:
    """Keep Pillow's warnings about large or odd files quiet: the limit here is `max_pixels`.

    Python's filters belong to the whole process: enter this once, around all threads.
    """
    return warnings.catch_warnings(action="ignore", category=Warning)


def convert_to_png(content: bytes, kind: Kind, *, max_pixels: int) -> bytes:
    """Return an image as the bytes of a PNG; to be called inside `no_pillow_warnings`.

    Args:
        content: the bytes of a file.
        kind: what `format_to_convert` says of it.
        max_pixels: height times width that is refused when exceeded, before anything is unpacked.

    Raises:
        UnreadableError: damaged, too large, or of a kind that Pillow cannot read.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=(kind,)) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise UnreadableError(
                    f"{width} x {height} pixels (width x height) are not within the limit of "
                    f"{max_pixels} pixels",
                    is_permanent=True,
                )
            return _as_png(image)
    except UnreadableError:
        raise
    # Pillow's readers raise almost anything on a damaged file: struct.error, KeyError, SyntaxError ...
    except Exception as error:
        raise _refusal(error, kind, max_pixels) from error


def _refusal(error: Exception, kind: Kind, max_pixels: int) -> UnreadableError:
    """Say in words why Pillow gave no image."""
    from PIL import Image

    if isinstance(error, Image.DecompressionBombError):
        reason = f"it has more pixels than the limit of {max_pixels} pixels"
        return UnreadableError(reason, is_permanent=True)
    if isinstance(error, MemoryError):
        return UnreadableError(NO_MEMORY)
    if isinstance(error, OSError) and error.errno is not None:
        # Pillow's own bear no number. Too many open files says nothing about this one.
        return UnreadableError(f"it cannot be converted: {error.strerror}")
    reason = f"the {kind} is damaged, or of a rare kind; convert it to PNG"
    return UnreadableError(reason, is_permanent=True)


def _as_png(image: Any) -> bytes:
    import numpy as np
    from PIL import Image, ImageOps

    tags = getattr(image, "tag_v2", {})
    inverted = tags.get(PHOTOMETRIC) == WHITE_IS_ZERO
    image.load()
    image = ImageOps.exif_transpose(image) or image
    if image.mode == "F":
        raise UnreadableError(
            "its pixels are floating-point numbers; convert it to 16-bit grey PNG", is_permanent=True
        )
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.int64)
        if levels.min() < 0 or levels.max() > 65535:
            raise UnreadableError(
                "its grey values do not fit into 16 bits; convert it to 16-bit grey PNG", is_permanent=True
            )
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
    """Read a whole image file; what TensorFlow cannot decode comes back as PNG.

    Args:
        file: an encoded image, of any kind.
        max_pixels: height times width; a file that must hold more is not read or not unpacked.

    Raises:
        UnreadableError: no file, empty, too large, or refused by the system or by Pillow.
    """
    with no_pillow_warnings():
        return to_decodable(read_content(file, max_pixels=max_pixels), max_pixels=max_pixels)


def read_content(file: Path, *, max_pixels: int) -> bytes:
    """Read a file as it lies.

    Raises:
        UnreadableError: no file, larger than an image of `max_pixels` can be, or the system refused.
    """
    try:
        found = file.stat()
        if not stat.S_ISREG(found.st_mode):
            # A named pipe would be waited for without end.
            raise UnreadableError("it is not a file")
        if found.st_size > largest_file_bytes(max_pixels):
            raise UnreadableError(f"its {found.st_size:,} bytes are more than {max_pixels:,} pixels can have")
        return file.read_bytes()
    except PermissionError as error:
        raise UnreadableError("it may not be read: permission denied") from error
    except FileNotFoundError as error:
        raise UnreadableError("it is not there") from error
    except OSError as error:
        raise UnreadableError(f"it cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise UnreadableError(NO_MEMORY) from error


def to_decodable(content: bytes, *, max_pixels: int) -> bytes:
    """Return the same bytes, or a PNG of what TensorFlow cannot decode; inside `no_pillow_warnings`.

    Raises:
        UnreadableError: empty, larger than `max_pixels` pixels, or refused by Pillow.
    """
    if not content:
        raise UnreadableError("it is empty (zero bytes)", is_permanent=True)
    kind = format_to_convert(content[:HEADER_BYTES])
    return content if kind is None else convert_to_png(content, kind, max_pixels=max_pixels)


LEVELS = 65536
LOW_FRACTION, HIGH_FRACTION = 0.005, 0.995


def auto_window(records: Sequence[Record]) -> tuple[float, float] | None:
    """Return the 0.5 and 99.5 percentiles of the stored values of all 16-bit grey images together.

    Args:
        records: the training split, checked; images of 8 bits are passed over.

    Returns:
        (low, high) in stored values, low < high; None when no image is 16-bit grey.
    """
    threads = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        counted = pool.map(_levels, [record.file for record in records])
        total = np.zeros(LEVELS, np.int64)
        for levels in track(counted, "finding the window", len(records)):
            if levels is not None:
                total += levels
    if not total.any():
        return None
    reached = np.cumsum(total) / total.sum()
    low = int(np.searchsorted(reached, LOW_FRACTION))
    high = int(np.searchsorted(reached, HIGH_FRACTION))
    # Images of one grey level have no width of their own.
    return float(low), float(max(high, low + 1))


def _levels(file: Path) -> Any:
    """Return how often each stored value occurs, `[65536]` int64; None when not 16-bit grey."""
    import tensorflow as tf

    content = file.read_bytes()
    if not is_16_bit_gray(content[:HEADER_BYTES]):
        return None
    pixels = tf.io.decode_png(content, channels=3, dtype=tf.uint16).numpy()[..., 0]
    return np.bincount(pixels.ravel(), minlength=LEVELS)


MOST = 64


@dataclass(frozen=True)
class PixelStatistics:
    """What a few images showed.

    Args:
        looked_at: how many.
        constant: how many hold one and the same value in every pixel.
        outside: share of the pixels of 16-bit grey images that lie outside the window, 0 to 1; None where
            there is none of these, or no window.
    """

    num_images: int
    constant: int
    outside: float | None


def sample_records(records: Sequence[Record]) -> list[Record]:
    """Return at most 64 records, at equal steps."""
    places = np.linspace(0, len(records) - 1, min(MOST, len(records))).round().astype(int)
    return [records[place] for place in places]


def is_16_bit_file(file: Path) -> bool:
    """Say from the header whether an image is 16-bit grey."""
    with file.open("rb") as stream:
        return is_16_bit_gray(stream.read(HEADER_BYTES))


def pixel_statistics(
    records: Sequence[Record], *, window: tuple[float, float] | None, max_pixels: int
) -> PixelStatistics:
    """Decode a few checked images.

    Args:
        records: all of these are decoded.
        window: (low, high) in stored values of 16-bit grey images.
        max_pixels: as in `decode_image`.
    """
    constant, outside, pixels = 0, 0, 0
    for record in records:
        content = record.file.read_bytes()
        if not is_16_bit_gray(content[:HEADER_BYTES]):
            values = decode_image(content, max_pixels=max_pixels).numpy()
            constant += bool(values.min() == values.max())
            continue
        # The full window: 65,535 levels as 0 to 255.
        levels = decode_image(content, max_pixels=max_pixels).numpy()[..., 0] * 257.0
        constant += bool(levels.min() == levels.max())
        if window is not None:
            pixels += levels.size
            # Half a level aside: they were divided and multiplied.
            outside += int(((levels < window[0] - 0.5) | (levels > window[1] + 0.5)).sum())
    return PixelStatistics(len(records), constant, outside / pixels if pixels else None)

"""Turn what TensorFlow cannot decode into PNG, once, before training: TIFF, animated WebP, rare BMP.

Pillow does it. Of a file with several pages or frames the first counts; orientation is applied; 16-bit
grey stays 16-bit grey.
"""

from __future__ import annotations

import io
import struct
import warnings
from typing import Any, Literal

from kerastl.data.kinds import TIFF_STARTS
from kerastl.data.unreadable import NO_MEMORY, UnreadableError

HEADER_BYTES = 64
WHITE_IS_ZERO, PHOTOMETRIC = 0, 262  # TIFF 6.0, section 8: PhotometricInterpretation
ANIMATION = 0x02  # RFC 9649, section 2.7
FAST = 1  # PNG compression level

Kind = Literal["TIFF", "WEBP", "BMP"]


def kind_to_convert(start: bytes) -> Kind | None:
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


def is_16_bit_grey(start: bytes) -> bool:
    """Say from the first 64 bytes whether a file is a 16-bit grey PNG, with or without alpha."""
    return start[:8] == b"\x89PNG\r\n\x1a\n" and start[24:25] == b"\x10" and start[25:26] in b"\0\4"


def no_pillow_warnings() -> warnings.catch_warnings[None]:
    """Keep Pillow's warnings about large or odd files quiet: the limit here is `max_pixels`.

    Python's filters belong to the whole process: enter this once, around all threads.
    """
    return warnings.catch_warnings(action="ignore", category=Warning)


def converted(content: bytes, kind: Kind, *, max_pixels: int) -> bytes:
    """Return a picture as the bytes of a PNG; to be called inside `no_pillow_warnings`.

    Args:
        content: the bytes of a file.
        kind: what `kind_to_convert` says of it.
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
                    lasting=True,
                )
            return _as_png(image)
    except UnreadableError:
        raise
    # Pillow's readers raise almost anything on a damaged file: struct.error, KeyError, SyntaxError ...
    except Exception as error:
        raise _refusal(error, kind, max_pixels) from error


def _refusal(error: Exception, kind: Kind, max_pixels: int) -> UnreadableError:
    """Say in words why Pillow gave no picture."""
    from PIL import Image

    if isinstance(error, Image.DecompressionBombError):
        reason = f"it has more pixels than the limit of {max_pixels} pixels"
        return UnreadableError(reason, lasting=True)
    if isinstance(error, MemoryError):
        return UnreadableError(NO_MEMORY)
    if isinstance(error, OSError) and error.errno is not None:
        # Pillow's own bear no number. Too many open files says nothing about this one.
        return UnreadableError(f"it cannot be converted: {error.strerror}")
    reason = f"the {kind} is damaged, or of a rare kind; convert it to PNG"
    return UnreadableError(reason, lasting=True)


def _as_png(image: Any) -> bytes:
    import numpy as np
    from PIL import Image, ImageOps

    tags = getattr(image, "tag_v2", {})
    inverted = tags.get(PHOTOMETRIC) == WHITE_IS_ZERO
    image.load()
    image = ImageOps.exif_transpose(image) or image
    if image.mode == "F":
        raise UnreadableError(
            "its pixels are floating-point numbers; convert it to 16-bit grey PNG", lasting=True
        )
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.int64)
        if levels.min() < 0 or levels.max() > 65535:
            raise UnreadableError(
                "its grey values do not fit into 16 bits; convert it to 16-bit grey PNG",
                lasting=True,
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

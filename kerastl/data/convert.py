"""Turn what TensorFlow cannot decode into PNG, once, before training: TIFF, animated WebP, rare BMP.

Pillow does it. Of a file with several pages or frames the first counts; orientation is applied; 16-bit
grey stays 16-bit grey.
"""

from __future__ import annotations

import io
import struct
import warnings
from typing import Any, Literal

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
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


def png_of_tiff(content: bytes, *, max_pixels: int) -> bytes | str:
    """Convert the first page of a TIFF.

    Args:
        content: the bytes of the file.
        max_pixels: height times width that is refused when exceeded, before it is unpacked.

    Returns:
        The bytes of a PNG; or text: why there is none.
    """
    with no_pillow_warnings():
        return converted(content, "TIFF", max_pixels=max_pixels)


def no_pillow_warnings() -> warnings.catch_warnings[None]:
    """Keep Pillow's warnings about large or odd files quiet: the limit here is `max_pixels`.

    Python's filters belong to the whole process: enter this once, around all threads.
    """
    return warnings.catch_warnings(action="ignore", category=Warning)


def converted(content: bytes, kind: Kind, *, max_pixels: int) -> bytes | str:
    """Return the bytes of a PNG, or why there is none; to be called inside `no_pillow_warnings`."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=(kind,)) as image:
            width, height = image.size
            if width * height > max_pixels:
                return (
                    f"{width} x {height} pixels (width x height) are not within the limit of "
                    f"{max_pixels} pixels"
                )
            return _as_png(image)
    except Image.DecompressionBombError:
        return f"it has more pixels than the limit of {max_pixels} pixels"
    except MemoryError:
        return f"the {kind} needs more memory than there is"
    # Pillow's readers raise almost anything on a damaged file: struct.error, KeyError, SyntaxError ...
    except Exception:
        return f"the {kind} is damaged, or of a rare kind; convert it to PNG"


def _as_png(image: Any) -> bytes | str:
    import numpy as np
    from PIL import Image, ImageOps

    tags = getattr(image, "tag_v2", {})
    inverted = tags.get(PHOTOMETRIC) == WHITE_IS_ZERO
    image.load()
    image = ImageOps.exif_transpose(image) or image
    if image.mode == "F":
        return "its pixels are floating-point numbers; convert it to 16-bit grey PNG"
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.int64)
        if levels.min() < 0 or levels.max() > 65535:
            return "its grey values do not fit into 16 bits; convert it to 16-bit grey PNG"
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

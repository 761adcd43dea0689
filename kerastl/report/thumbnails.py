"""Small pictures for the page, as data: URLs; whatever cannot be opened safely has none."""

from __future__ import annotations

import base64
import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
SIDE_PX = 160
HIGHEST = 65535.0


def thumbnail(file: Path, *, window: tuple[float, float] | None, max_pixels: int) -> str | None:
    """Return a PNG of at most 160 px a side, or None when the file gives no picture.

    Args:
        file: an encoded picture.
        window: (low, high) in stored values of 16-bit grey; None: 0 to 65535.
        max_pixels: height times width above which the file is not unpacked.
    """
    from PIL import Image, ImageOps

    try:
        # A warning of Pillow, as of a picture large enough to fill the memory, is a refusal here.
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(file, formats=FORMATS) as opened:
                if opened.width * opened.height > max_pixels:
                    return None
                picture = _eight_bit(ImageOps.exif_transpose(opened), window)
            picture.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    except Exception:  # Pillow's readers raise errors of a dozen kinds on damaged files
        return None
    return png_url(picture)


def png_url(picture: Picture) -> str:
    """Return a picture as PNG in a data: URL."""
    png = io.BytesIO()
    picture.save(png, "PNG", optimize=True)
    return png_url_of(png.getvalue())


def png_url_of(content: bytes) -> str:
    """Return the bytes of a PNG in a data: URL."""
    return "data:image/png;base64," + base64.b64encode(content).decode()


def _eight_bit(picture: Picture, window: tuple[float, float] | None) -> Picture:
    from PIL import Image

    if picture.mode.startswith("I"):
        low, high = window or (0.0, HIGHEST)
        levels = (np.asarray(picture, np.float64) - low) / (high - low)
        return Image.fromarray(np.round(np.clip(levels, 0, 1) * 255).astype(np.uint8))
    if picture.has_transparency_data:
        over = picture.convert("RGBA")
        under = Image.new("RGBA", over.size, "white")
        return Image.alpha_composite(under, over).convert("RGB")
    return picture.convert("L" if picture.mode in ("1", "L") else "RGB")

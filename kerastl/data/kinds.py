"""What a picture file is by its name, its first bytes and its size. No TensorFlow."""

from __future__ import annotations

from pathlib import PurePath

PICTURE_EXTENSIONS = frozenset(["png", "jpg", "jpeg", "bmp", "gif", "webp", "tif", "tiff"])

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
# Colour profiles, thumbnails and the like that a small picture may carry.
METADATA_BYTES = 64 * 2**20


def extension_of(content: bytes) -> str | None:
    """Return the usual extension of a picture, without the dot, from its first bytes; None: no such kind."""
    return next((name for start, name in STARTS.items() if content.startswith(start)), None)


def has_picture_name(name: str) -> bool:
    """Say whether a file is a picture by the extension of its name."""
    return PurePath(name).suffix[1:].lower() in PICTURE_EXTENSIONS


def largest_file_bytes(max_pixels: int) -> int:
    """Return how many bytes a picture of `max_pixels` pixels may have; a larger file is not read."""
    return max_pixels * BYTES_PER_PIXEL + METADATA_BYTES

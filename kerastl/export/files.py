"""From what a user names to the bytes of pictures: files, folders and all that lies below."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from natsort import natsorted

from kerastl.errors import RequestError

PICTURE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

BYTES_PER_PIXEL = 8
"""A pixel of four 16-bit channels, unpacked."""
ROOM_FOR_METADATA = 64 * 2**20
"""Bytes of colour profiles, thumbnails and the like that a small picture may carry."""

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class UnreadableError(Exception):
    """One file gives no picture; the text says why."""


def find_pictures(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the files that were named, and the pictures in the folders that were named.

    In a folder, and below it, files with the suffix of a picture count; hidden ones and links to
    folders are passed over. Files come in natural order (2 before 10). A file that was named itself
    is always yielded.

    Raises:
        RequestError: a path does not exist.
    """
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise RequestError(f"There is no file or folder {', '.join(missing)}.")
    for path in paths:
        if path.is_dir():
            yield from _below(path)
        else:
            yield path


def _below(folder: Path) -> Iterator[Path]:
    for name, folders, files in os.walk(folder):
        # os.walk goes into the folders that are left in this very list, in its order.
        folders[:] = natsorted(one for one in folders if not one.startswith("."))
        for file in natsorted(files):
            if not file.startswith(".") and file.lower().endswith(PICTURE_SUFFIXES):
                yield Path(name, file)


def read_picture(path: Path, *, max_pixels: int) -> bytes:
    """Read a whole picture file; TIFF comes back as PNG, as TensorFlow does not decode it.

    Raises:
        UnreadableError: not a file, empty, larger than `max_pixels` pixels can be, or a damaged TIFF.
    """
    try:
        if not path.is_file():
            raise UnreadableError("not a file")
        size = path.stat().st_size
        limit = max_pixels * BYTES_PER_PIXEL + ROOM_FOR_METADATA
        if size > limit:
            raise UnreadableError(f"{size:,} bytes are more than {max_pixels:,} pixels can have")
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from error
    if not content:
        raise UnreadableError("it is empty (zero bytes)")
    return _tiff_as_png(content, max_pixels) if content.startswith(TIFF_STARTS) else content


def _tiff_as_png(content: bytes, max_pixels: int) -> bytes:
    from kerastl.data.pictures import png_of_tiff

    converted = png_of_tiff(content, max_pixels=max_pixels)
    if isinstance(converted, str):
        raise UnreadableError(converted)
    return converted


def shown(path: Path) -> str:
    """Return a path as text that any terminal and any UTF-8 file can hold."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)

"""Why a file cannot be used as a picture, in words a person understands."""

from __future__ import annotations

import re
from pathlib import Path

import tensorflow as tf

from .decode import Window, decode_image

ENDINGS = {b"\x89PNG": b"IEND", b"\xff\xd8\xff": b"\xff\xd9", b"GIF8": b"\x3b"}
TAIL = 64  # bytes: some cameras and programs write a little behind the end of the picture


def reason_of(file: Path, *, window: Window | None = None, max_pixels: int) -> str | None:
    """Decode a file and drop the pixels.

    Args:
        file: an encoded picture.
        window, max_pixels: as in `decode_image`.

    Returns:
        None when it is a good picture; else why not, without the file's name.
    """
    try:
        content = file.read_bytes()
    except PermissionError:
        return "it may not be read: permission denied"
    except FileNotFoundError:
        return "it is not there"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return reason_of_content(content, window=window, max_pixels=max_pixels)


def reason_of_content(content: bytes, *, window: Window | None, max_pixels: int) -> str | None:
    """As `reason_of`, for the bytes of a file."""
    if not content:
        return "it is empty (zero bytes)"
    try:
        decode_image(tf.constant(content), window=window, max_pixels=max_pixels)
    except tf.errors.OpError as error:
        return _in_words(error.message, content)
    return None


def _in_words(message: str, content: bytes) -> str:
    refusal = re.search(r"assertion failed: \[(.*?)\]", message, re.DOTALL)
    if refusal:
        return refusal.group(1).strip()
    for start, end in ENDINGS.items():
        if content.startswith(start) and end not in content[-TAIL:]:
            return "it is cut short: the end of the picture is missing"
    return "it is damaged: it begins like a picture and cannot be decoded"

"""Why a file cannot be used as a picture, in words a person understands."""

from __future__ import annotations

import re
from pathlib import Path

import tensorflow as tf

from kerastl.data.decode import NO_PICTURE, Window, decode_image
from kerastl.data.reading import read_content
from kerastl.data.unreadable import NO_MEMORY, UnreadableError

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
        content = read_content(file, max_pixels=max_pixels)
    except UnreadableError as error:
        return str(error)
    return reason_of_content(content, window=window, max_pixels=max_pixels)


def reason_of_content(content: bytes, *, window: Window | None, max_pixels: int) -> str | None:
    """As `reason_of`, for the bytes of a file."""
    try:
        check_content(content, window=window, max_pixels=max_pixels)
    except UnreadableError as error:
        return str(error)
    return None


def check_content(content: bytes, *, window: Window | None, max_pixels: int) -> None:
    """Decode the bytes of a file and drop the pixels.

    Raises:
        UnreadableError: the decoder refuses them, or there is no memory for it.
    """
    if not content:
        raise UnreadableError("it is empty (zero bytes)", lasting=True)
    try:
        decode_image(tf.constant(content), window=window, max_pixels=max_pixels)
    except tf.errors.InvalidArgumentError as error:
        raise UnreadableError(_in_words(error.message, content), lasting=True) from error
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise UnreadableError(NO_MEMORY) from error
    except tf.errors.OpError as error:
        raise UnreadableError(_in_words(error.message, content)) from error


def _in_words(message: str, content: bytes) -> str:
    refusal = re.search(r"assertion failed: \[(.*?)\]", message, re.DOTALL)
    if refusal:
        text = refusal.group(1).strip()
        # From a file TIFF is read, too: it is converted before the decoder sees it.
        return text.replace(NO_PICTURE, NO_PICTURE.replace(" or WebP", ", WebP or TIFF"))
    for start, end in ENDINGS.items():
        if content.startswith(start) and end not in content[-TAIL:]:
            return "it is cut short: the end of the picture is missing"
    return "it is damaged: it begins like a picture and cannot be decoded"

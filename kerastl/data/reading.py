"""From a file to bytes that the decoder takes: the one way for training, `predict` and `verify`. No TensorFlow."""

from __future__ import annotations

import stat
from pathlib import Path

from kerastl.data.convert import HEADER_BYTES, converted, kind_to_convert, no_pillow_warnings
from kerastl.data.kinds import largest_file_bytes
from kerastl.data.unreadable import NO_MEMORY, UnreadableError


def read_picture(file: Path, *, max_pixels: int) -> bytes:
    """Read a whole picture file; what TensorFlow cannot decode comes back as PNG.

    Args:
        file: an encoded picture, of any kind.
        max_pixels: height times width; a file that must hold more is not read or not unpacked.

    Raises:
        UnreadableError: no file, empty, too large, or refused by the system or by Pillow.
    """
    with no_pillow_warnings():
        return decodable(read_content(file, max_pixels=max_pixels), max_pixels=max_pixels)


def read_content(file: Path, *, max_pixels: int) -> bytes:
    """Read a file as it lies.

    Raises:
        UnreadableError: no file, larger than a picture of `max_pixels` can be, or the system refused.
    """
    try:
        found = file.stat()
        if not stat.S_ISREG(found.st_mode):
            # A named pipe would be waited for without end.
            raise UnreadableError("it is not a file")
        if found.st_size > largest_file_bytes(max_pixels):
            raise UnreadableError(
                f"its {found.st_size:,} bytes are more than {max_pixels:,} pixels can have"
            )
        return file.read_bytes()
    except PermissionError as error:
        raise UnreadableError("it may not be read: permission denied") from error
    except FileNotFoundError as error:
        raise UnreadableError("it is not there") from error
    except OSError as error:
        raise UnreadableError(f"it cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise UnreadableError(NO_MEMORY) from error


def decodable(content: bytes, *, max_pixels: int) -> bytes:
    """Return the same bytes, or a PNG of what TensorFlow cannot decode; inside `no_pillow_warnings`.

    Raises:
        UnreadableError: empty, larger than `max_pixels` pixels, or refused by Pillow.
    """
    if not content:
        raise UnreadableError("it is empty (zero bytes)", lasting=True)
    kind = kind_to_convert(content[:HEADER_BYTES])
    return content if kind is None else converted(content, kind, max_pixels=max_pixels)

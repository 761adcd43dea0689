"""Identification of image files by their content, and conversion of those that TensorFlow cannot decode to PNG.

Training, checks and predictions use the same functions, so that they read the same files and give the same reasons.

- Pillow reads TIFF, HEIC, AVIF, animated WebP (first frame), unusual BMP, and GIF whose first frame is smaller than the
  canvas. 16-bit grayscale stays 16-bit.
- A TIFF file must have one page at full resolution. Layouts that Pillow does not read correctly are rejected.
- An orientation that only Pillow reads, e.g. in compressed text of a PNG, is applied by conversion.
- A JPEG with missing or damaged pixels is rejected, even if it has an end marker. TensorFlow and Pillow accept it. JPEG
  has no checksum: changed bytes that are valid codes cannot be detected.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import stat
import struct
import warnings
from collections.abc import Iterator
from functools import partial
from math import ceil
from pathlib import Path, PurePath
from typing import Any, Literal

IMAGE_EXTENSIONS = frozenset(["png", "jpg", "jpeg", "jpe", "jfif", "bmp", "gif", "webp", "tif", "tiff"])

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
STARTS = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    **dict.fromkeys(TIFF_STARTS, "TIFF"),
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",
}
HEADER_BYTES = 132
"""The number of bytes that identify a format. The mark of DICOM is the last one, at byte 128."""
BMP_HEADER_SIZES = (12, 40, 52, 56, 64, 108, 124)
AVIF_BRANDS = frozenset([b"avif", b"avis"])
HEIC_BRANDS = frozenset([b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"])
EXTENSIONS = {"JPEG": "jpg", "TIFF": "tif"}

# Upper bound of the file size per pixel: four uncompressed 16-bit channels.
BYTES_PER_PIXEL = 8
# Upper bound for color profiles, thumbnails and other metadata.
METADATA_BYTES = 64 * 2**20


def format_of(start: bytes) -> str | None:
    """Return the format of an image, e.g. `JPEG`, from the first `HEADER_BYTES`, or None if it is not a known format."""
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WEBP"
    if start[:2] == b"BM" and int.from_bytes(start[14:18], "little") in BMP_HEADER_SIZES:
        return "BMP"
    if start[4:8] == b"ftyp":  # ISO/IEC 23008-12, annex B, and AVIF 1.1, section 6
        size = min(int.from_bytes(start[:4], "big"), HEADER_BYTES)
        brands = {start[offset : offset + 4] for offset in (8, *range(16, size, 4))}
        return "AVIF" if brands & AVIF_BRANDS else "HEIC" if brands & HEIC_BRANDS else None
    if start[128:132] == b"DICM":
        return "DICOM"
    return next((name for first, name in STARTS.items() if start.startswith(first)), None)


def remedy_for(image_format: str) -> str | None:
    """Return how to make an image of an unsupported format readable, or None for a supported format."""
    if image_format == "HEIC" and importlib.util.find_spec("pillow_heif") is None:
        return "convert to JPEG or install kerastl[heic]"
    return "convert to PNG" if image_format in ("JPEG 2000", "JPEG XL", "DICOM") else None


def extension_of(content: bytes) -> str | None:
    """Return the usual extension of an image, without the dot, or None if the content is not a known image format."""
    image_format = format_of(content)
    return image_format and EXTENSIONS.get(image_format, image_format.lower())


def has_image_name(name: str) -> bool:
    """Return whether a file name has an image extension."""
    return PurePath(name).suffix[1:].lower() in IMAGE_EXTENSIONS


def reason_to_ignore(file: Path, *, or_unsupported: bool = False) -> str | None:
    """Return why a file in a folder is ignored, as a kind of file, e.g. `.txt`, or None if it is read as an image.

    The reason is based on the content. A file with an image extension is never ignored: if it cannot be read, that is
    reported.

    Args:
        file: The file.
        or_unsupported: Whether to return None for images of unsupported formats, too.
    """
    if has_image_name(file.name):
        return None
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            return "not a regular file"  # reading a named pipe would block
        with file.open("rb") as stream:
            start = stream.read(HEADER_BYTES)
    except OSError as error:
        return error.strerror or "unreadable"
    image_format = format_of(start)
    if image_format is not None:
        remedy = None if or_unsupported else remedy_for(image_format)
        return remedy and f"{image_format} ({remedy})"
    return file.suffix.lower() or ("without extension" if start else "empty")


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


# TIFF 6.0, section 8, and technical note 1: NewSubfileType, SubfileType and others.
REDUCED_IMAGE, OLD_REDUCED_IMAGE = 1, 2
NEW_SUBFILE, SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION = range(254, 260)
PHOTOMETRIC, DESCRIPTION, SAMPLES, PALETTE_COLORS, SUB_DIRECTORIES, DEPTH = 262, 270, 277, 320, 330, 32997
STRIP_ROWS, PLANAR, TILE_WIDTH, TILE_HEIGHT, SAMPLE_FORMAT, JPEG_TABLES = 278, 284, 322, 323, 339, 347
STRIPS, TILES = (273, 279), (324, 325)  # offsets and numbers of bytes
WHITE_IS_ZERO, RGB, PALETTE, CMYK, SEPARATE, SIGNED, UNCOMPRESSED, JPEG_STRIPS = 0, 2, 3, 5, 2, 2, 1, 7
TIFF_HEADER_BYTES = 8
IMAGEJ_STACK = re.compile(r"ImageJ=.*^images=(\d+)", re.DOTALL | re.MULTILINE)
MAX_PAGES = 64
# Without escaped data, restart markers, other markers without a segment, and fill bytes.
JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
FRAME_STARTS, PROGRESSIVE, SCAN_START, END = b"\xc0\xc1\xc2\xc9\xca", b"\xc2\xca", 0xDA, 0xD9
OTHER_FRAME_STARTS = b"\xc3\xc5\xc6\xc7\xcb\xcd\xce\xcf\xf7"  # lossless, hierarchical and JPEG-LS
ORIENTATION = 0x0112
XMP_ORIENTATION = b"tiff:Orientation"
# A file without any of these has no orientation that the decoder or Pillow reads.
ORIENTATION_MARKS = {
    "JPEG": (b"Exif\0\0", XMP_ORIENTATION),
    "PNG": (b"eXIf", b"exif\0", b"XML:com.adobe.xmp", XMP_ORIENTATION),  # chunk, and keys of text chunks
    "WEBP": (b"EXIF", XMP_ORIENTATION),
}
ANIMATION = 0x02  # RFC 9649, section 2.7
FAST = 1  # PNG compression level
TRUNCATED = "the file is truncated"
ZERO_TAIL = bytes(64)  # compressed pixels do not end in so many zeros, but interrupted downloads do
PADDING_SLACK = 8
NARROW = 1 / 8
"""Images that use a smaller share of their range are nearly uniform, probably because they are stored with fewer bits."""
DEEP_COLORS = (b"\x10\2", b"\x10\6")  # bits and color type of a PNG
DEEP_GRAY_ALPHA = b"\x10\4"
DARK_COLORS = "its 16-bit colors use less than an eighth of the range. Convert it to 8 bits per channel"

Kind = Literal["TIFF", "WEBP", "BMP", "GIF", "HEIC", "AVIF"]
WITH_FRAMES = ("GIF", "PNG", "WEBP", "HEIC", "AVIF")


def is_animation(content: bytes) -> bool:
    """Return whether an image has several frames, of which only the first is read. For TIFF, see `_select_page`."""
    image_format = format_of(content)
    if image_format in WITH_FRAMES:
        with contextlib.suppress(Exception), _open_image(content, image_format) as image:
            return bool(getattr(image, "n_frames", 1) > 1)
    return False


def format_to_convert(content: bytes) -> Kind | None:
    """Return the format of a file that must be converted, or None for other files."""
    start = content[:HEADER_BYTES]
    match format_of(start):
        case "TIFF" | "HEIC" | "AVIF" as kind:
            return kind
        case "WEBP":
            return "WEBP" if start[12:16] == b"VP8X" and start[20:21] and start[20] & ANIMATION else None
        case "BMP" if len(start) >= 34:
            first, header_size, bits, compression = struct.unpack_from("<II10xHI", start, 10)
            is_plain = first >= 14 + header_size >= 54 and bits in (8, 24, 32) and not compression
            return None if is_plain else "BMP"
        case "GIF":
            # If Pillow cannot read the file, the decoder reports the reason.
            with contextlib.suppress(Exception), _open_image(content, "GIF") as image:
                return "GIF" if image.tile and image.tile[0][1] != (0, 0, *image.size) else None
    return None


def is_16_bit_gray(start: bytes) -> bool:
    """Return whether a file is a 16-bit grayscale PNG, from its first 64 bytes or more."""
    return start[:8] == b"\x89PNG\r\n\x1a\n" and start[24:25] == b"\x10" and start[25:26] in b"\0\4"


def is_16_bit_file(file: Path) -> bool:
    """Return whether a file is a 16-bit grayscale PNG. False for an unreadable file, which is reported when it is decoded."""
    # Opening a named pipe would block.
    with contextlib.suppress(OSError):
        if file.is_file():
            with file.open("rb") as stream:
                return is_16_bit_gray(stream.read(HEADER_BYTES))
    return False


def no_pillow_warnings() -> warnings.catch_warnings[None]:
    """Suppress Pillow's warnings about large or unusual files.

    Warning filters are global to the process, so enter this context once, around all threads.
    """
    return warnings.catch_warnings(action="ignore", category=Warning)


def _open_image(content: bytes, image_format: str) -> Any:
    """Return the Pillow image of a file. Its pixels are not decoded."""
    if image_format == "HEIC":
        import pillow_heif

        return pillow_heif.HeifImageFile(io.BytesIO(content))
    from PIL import Image

    return Image.open(io.BytesIO(content), formats=(image_format,))


def convert_to_png(content: bytes, kind: str, *, max_pixels: int) -> bytes:
    """Convert the bytes of an image file to the bytes of a PNG. Call it inside `no_pillow_warnings`.

    Raises:
        UnreadableError: The file is damaged, has more than `max_pixels` pixels, or Pillow does not support it.
    """
    from PIL import Image

    # Pillow would reduce it to 8 bits, so that 12-bit values become nearly black.
    if kind == "PNG" and content[24:26] == DEEP_GRAY_ALPHA:
        raise InvalidImageError("its orientation is in a text chunk. Rotate it, or remove its alpha channel")
    try:
        with _open_image(content, kind) as image:
            if kind == "TIFF":
                _select_page(image)
            width, height = image.size
            if width * height > max_pixels:
                raise InvalidImageError(
                    f"{width} x {height} pixels (width x height) exceed the limit of {max_pixels} pixels"
                )
            if kind == "TIFF":
                _check_layout(image.tag_v2, content, max_pixels)
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


def _select_page(image: Any) -> None:
    """Select the only page of a TIFF that is not a thumbnail."""
    pages, num_images = [], 0
    for index in range(MAX_PAGES):
        try:
            image.seek(index)
        except EOFError:
            break
        tags = image.tag_v2
        subdirectories = map(partial(_subdirectory, image), tags.get(SUB_DIRECTORIES, ()))
        num_images += sum(not _is_thumbnail(directory) for directory in subdirectories)
        if not _is_thumbnail(tags):
            pages.append(index)
            stack = IMAGEJ_STACK.match(str(tags.get(DESCRIPTION, "")))
            num_images += max(tags.get(DEPTH, 1), int(stack[1]) if stack else 1)
    if not pages or num_images != 1:
        content = f"{num_images} pages" if pages else "only a thumbnail"
        raise InvalidImageError(f"the TIFF file has {content}. Save each image as a separate PNG")
    image.seek(pages[0])


def _is_thumbnail(tags: Any) -> bool:
    return bool(tags.get(NEW_SUBFILE, 0) & REDUCED_IMAGE) or tags.get(SUBFILE) == OLD_REDUCED_IMAGE


def _subdirectory(image: Any, offset: int) -> Any:
    """Return the tags at an offset of a TIFF file, for example those of the full image of a thumbnail."""
    from PIL import TiffImagePlugin

    image.fp.seek(0)
    start = image.fp.read(2 * TIFF_HEADER_BYTES)
    is_big = start.startswith((b"II+", b"MM\0+"))
    tags = TiffImagePlugin.ImageFileDirectory_v2(start if is_big else start[:TIFF_HEADER_BYTES])
    image.fp.seek(offset)
    tags.load(image.fp)
    return tags


def _check_layout(tags: Any, content: bytes, max_pixels: int) -> None:
    """Reject a TIFF page whose pixels are incomplete, or that Pillow does not read correctly."""
    width, height = tags[WIDTH], tags[HEIGHT]
    samples, bits = tags.get(SAMPLES, 1), tags.get(BITS, (1,))
    is_separate = samples > 1 and tags.get(PLANAR) == SEPARATE
    if is_separate and (max(bits) > 8 or tags.get(PHOTOMETRIC) not in (RGB, CMYK)):
        raise InvalidImageError("the TIFF file stores its channels separately. Convert it to PNG")
    compression = tags.get(COMPRESSION, UNCOMPRESSED)
    is_swapped = content[:1] == b"M" and compression != UNCOMPRESSED
    if SIGNED in tags.get(SAMPLE_FORMAT, ()) and (max(bits) <= 8 or is_swapped):
        raise InvalidImageError("its pixels are signed numbers. Convert it to 16-bit grayscale PNG")
    if tags.get(PHOTOMETRIC) == PALETTE and 0 < max(tags.get(PALETTE_COLORS, (0,))) < 256:
        raise InvalidImageError("the colors of its palette are stored as 8 bits. Convert it to PNG")
    count = ceil(height / min(tags.get(STRIP_ROWS, height), height))
    if TILE_WIDTH in tags:
        count = ceil(width / tags[TILE_WIDTH]) * ceil(height / tags[TILE_HEIGHT])
    offsets, sizes = (tags.get(tag, ()) for tag in (TILES if TILE_WIDTH in tags else STRIPS))
    row_bits = width * (sum(bits) if len(bits) > 1 else bits[0] * samples)
    # A page without numbers of bytes may be complete. Pillow checks that uncompressed pixels are inside the file.
    least = height * ceil(row_bits / 8) if compression == UNCOMPRESSED and sizes else 0
    # Strips that overlap could multiply the memory for their copies.
    num_strips = count * (samples if is_separate else 1)
    has_offsets = len(offsets) >= num_strips and min(offsets) >= TIFF_HEADER_BYTES
    if not has_offsets or not least <= sum(sizes) <= len(content):
        raise InvalidImageError(TRUNCATED)
    tables = tags.get(JPEG_TABLES, b"")
    for offset, size in zip(offsets, sizes, strict=False) if compression != UNCOMPRESSED else ():
        part = content[offset : offset + size]
        if compression == JPEG_STRIPS:
            check_jpeg(tables[:-2] + part[2:] if tables else part, max_pixels=max_pixels)
        elif not part or part.endswith(ZERO_TAIL):
            raise InvalidImageError(TRUNCATED)


def check_jpeg(content: bytes, *, max_pixels: int) -> None:
    """Reject a JPEG with missing or damaged pixels, by the warnings of libjpeg. The pixels are decoded at 1/8 of the size.

    Raises:
        InvalidImageError: Pixels are missing or damaged.
    """
    import numpy as np
    import simplejpeg

    marker, frame = next(_jpeg_segments(content, FRAME_STARTS + OTHER_FRAME_STARTS), (0, b""))
    if len(frame) < 5:
        return  # the decoder reports the reason
    # simplejpeg 1.9 writes beyond its buffer and crashes the process.
    bits, height, width = struct.unpack_from(">BHH", frame)
    if marker not in FRAME_STARTS or bits != 8:
        raise InvalidImageError("lossless, hierarchical and 12-bit JPEG are not supported. Convert it to PNG")
    if height * width > max_pixels:
        return
    ends_uniformly = False
    try:
        simplejpeg.decode_jpeg(content, colorspace="GRAY", min_height=1, min_width=1, min_factor=8)
    except (ValueError, KeyError) as error:
        message = str(error)
        # Unusual chroma subsampling, which this interface of libjpeg does not decode.
        if "subsampling" in message:
            with contextlib.suppress(Exception), _open_image(content, "JPEG") as image:
                bottom = image.convert("L").crop((0, image.height - 4, image.width, image.height))
                ends_uniformly = np.ptp(bottom) <= 1  # as missing pixels are
        padding = re.search(r"(\d+) extraneous bytes before marker 0xd9", message)
        if ends_uniformly or re.search("(?i)premature end|instead of RST", message):
            raise InvalidImageError(TRUNCATED) from error
        if not ("subsampling" in message or (padding and _is_padding(content, int(padding[1])))):
            raise InvalidImageError("the file is damaged: some of its pixels cannot be decoded") from error
    if not _has_all_scans(content):
        raise InvalidImageError(TRUNCATED)


def _has_all_scans(content: bytes) -> bool:
    """Return whether the scans of a JPEG hold every coefficient of every component in full precision.

    libjpeg does not report missing scans of a progressive JPEG.

    Reference:
        ITU-T T.81, sections B.2 (markers, frame and scan headers) and G.1 (progressive scans).
    """
    missing: dict[int, set[int]] = {}
    is_progressive = False
    with contextlib.suppress(IndexError, KeyError, ValueError):  # a damaged header
        for marker, segment in _jpeg_segments(content, FRAME_STARTS + bytes([SCAN_START])):
            if marker in FRAME_STARTS:
                missing = {segment[6 + 3 * index]: set(range(64)) for index in range(segment[5])}
                is_progressive = marker in PROGRESSIVE
            else:
                names = segment[1 : 1 + 2 * segment[0] : 2]
                first, last, precision = segment[1 + 2 * segment[0] :][:3] if is_progressive else (0, 63, 0)
                for name in names if precision % 16 == 0 else b"":
                    missing[name].difference_update(range(first, last + 1))
                if not any(missing.values()):
                    return True
    return False


def _jpeg_segments(content: bytes, markers: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield some segments of a JPEG up to its end marker: the second byte of the marker, and the content."""
    position, marker = 2, 0
    while marker != END and (match := JPEG_MARKER.search(content, position)):
        marker, start = content[match.end() - 1], match.end()
        segment = content[start + 2 : start + int.from_bytes(content[start : start + 2], "big")]
        position = start + 2 + len(segment)
        if marker in markers:
            yield marker, segment


def _is_padding(content: bytes, num_bytes: int) -> bool:
    """Return whether unused bytes before the end marker of a JPEG are padding or a few stray bytes, as some cameras write.

    If pixels were overwritten by zeros, the decoder uses some of the zeros as pixels, so that fewer are left.
    """
    pixels = content[: content.rfind(b"\xff\xd9")]
    repeated = len(pixels) - len(pixels.rstrip(pixels[-1:]))
    return repeated - PADDING_SLACK <= num_bytes <= max(repeated, PADDING_SLACK)


def _has_other_orientation(content: bytes, image_format: str, max_pixels: int) -> bool:
    """Return whether Pillow reads a different orientation from the decoder, e.g. one in compressed text."""
    from kerastl.data.decode import stored_orientation

    if not any(mark in content for mark in ORIENTATION_MARKS.get(image_format, ())):
        return False
    # If Pillow cannot read the file, which raises errors of many types, the decoder reports the reason.
    with contextlib.suppress(Exception), _open_image(content, image_format) as image:
        if image.width * image.height <= max_pixels:  # Pillow decompresses a PNG to find its orientation
            orientation = image.getexif().get(ORIENTATION, 1)
            return stored_orientation(content) != (orientation if orientation in range(2, 9) else 1)
    return False


def _check_color_range(image: Any) -> None:
    """Reject 16-bit colors that are nearly black in 8 bits, such as 12-bit values. A window applies to grayscale only."""
    import numpy as np

    if np.asarray(image.convert("RGB")).max() < 256 * NARROW:
        raise InvalidImageError(DARK_COLORS)


def _as_png(image: Any) -> bytes:
    import numpy as np
    from PIL import Image, ImageOps

    tags = getattr(image, "tag_v2", {})
    inverted = tags.get(PHOTOMETRIC) == WHITE_IS_ZERO
    image.load()
    if image.mode in ("RGB", "RGBA") and max(tags.get(BITS, (8,))) == 16:
        _check_color_range(image)
    image = ImageOps.exif_transpose(image) or image
    if image.mode == "F":
        raise InvalidImageError("its pixels are floating-point numbers. Convert it to 16-bit grayscale PNG")
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.int64)
        if levels.min() < 0 or levels.max() > 65535:
            raise InvalidImageError(
                "its gray levels are negative or exceed 16 bits. Convert it to 16-bit grayscale PNG"
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
        UnreadableError: The content is empty, has missing pixels, is of an unsupported format, or cannot be converted.
    """
    if not content:
        raise InvalidImageError("the file is empty")
    image_format = format_of(content)
    if image_format is None:
        return content  # the decoder reports the reason
    if remedy := remedy_for(image_format):
        raise InvalidImageError(f"{image_format} is not supported: {remedy}")
    if image_format == "JPEG":
        check_jpeg(content, max_pixels=max_pixels)
    elif image_format in ("WEBP", "HEIC", "AVIF"):
        end = 8 + int.from_bytes(content[4:8], "little") if image_format == "WEBP" else len(content)
        if content[:end].endswith(ZERO_TAIL):
            raise InvalidImageError(TRUNCATED)
    elif image_format == "PNG" and content[24:26] in DEEP_COLORS:
        # If Pillow cannot read the file, the decoder reports the reason.
        with contextlib.suppress(OSError, ValueError, SyntaxError), _open_image(content, "PNG") as image:
            if image.width * image.height <= max_pixels:
                _check_color_range(image)
    if format_to_convert(content) or _has_other_orientation(content, image_format, max_pixels):
        return convert_to_png(content, image_format, max_pixels=max_pixels)
    return content


NUM_THREADS = min(8, os.cpu_count() or 1)

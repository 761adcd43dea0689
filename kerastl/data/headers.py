"""What the first bytes of a picture say, read by TensorFlow operations before anything is decoded.

Positions are checked: a number that lies beyond the end of the file reads as 0, so a cut header
never reaches memory that is not its own.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

UNKNOWN, PNG, JPEG, GIF, BMP, WEBP, TIFF = range(7)
MAX_EXIF_ENTRIES = 1024
MAX_JPEG_SEGMENTS = 256


class PngHeader(NamedTuple):
    """Scalars of a PNG's IHDR: int64 height and width in pixels, bits a channel, colour type."""

    height: tf.Tensor
    width: tf.Tensor
    bits: tf.Tensor
    colour_type: tf.Tensor


def read_number(
    raw: tf.Tensor, position: tf.Tensor | int, num_bytes: int, *, big_endian: bool | tf.Tensor
) -> tf.Tensor:
    """Read one unsigned whole number, or one for each position.

    Args:
        raw: `[bytes]` uint8.
        position: int64 of any shape, of the first byte.
        num_bytes: 1 to 7.
        big_endian: a Python or a scalar tensor truth.

    Returns:
        int64 of the positions' shape; bytes beyond the end count as 0.
    """
    size = tf.size(raw, out_type=tf.int64)
    places = tf.cast(position, tf.int64)[..., None] + tf.range(num_bytes, dtype=tf.int64)
    inside = (places >= 0) & (places < size)
    padded = tf.concat([raw, tf.zeros([1], tf.uint8)], 0)
    read = tf.cast(tf.gather(padded, tf.where(inside, places, size)), tf.int64)
    little = [256**power for power in range(num_bytes)]
    powers = tf.where(
        big_endian, tf.constant(little[::-1], tf.int64), tf.constant(little, tf.int64)
    )
    return tf.reduce_sum(read * powers, axis=-1)


def kind_of(raw: tf.Tensor) -> tf.Tensor:
    """Return which kind of picture the first bytes announce: scalar int32, one of the constants above."""

    def starts(text: bytes, position: int = 0) -> tf.Tensor:
        length = len(text)
        found = raw[position : position + length]
        same_size = tf.equal(tf.size(found), length)
        return same_size & tf.reduce_all(
            tf.equal(
                tf.pad(found, [[0, length - tf.size(found)]]), tf.constant(list(text), tf.uint8)
            )
        )

    kinds = [
        (starts(b"\x89PNG\r\n\x1a\n"), PNG),
        (starts(b"\xff\xd8\xff"), JPEG),
        (starts(b"GIF87a") | starts(b"GIF89a"), GIF),
        (starts(b"BM"), BMP),
        (starts(b"RIFF") & starts(b"WEBP", 8), WEBP),
        (starts(b"II*\0") | starts(b"MM\0*") | starts(b"II+\0") | starts(b"MM\0+"), TIFF),
    ]
    found = tf.constant(UNKNOWN, tf.int32)
    for matches, kind in kinds:
        found = tf.where(matches, kind, found)
    return found


def png_header(raw: tf.Tensor) -> PngHeader:
    """Read a PNG's IHDR (PNG specification 3, section 11.2.1)."""
    return PngHeader(
        height=read_number(raw, 20, 4, big_endian=True),
        width=read_number(raw, 16, 4, big_endian=True),
        bits=read_number(raw, 24, 1, big_endian=True),
        colour_type=read_number(raw, 25, 1, big_endian=True),
    )


def contains(raw: tf.Tensor, text: bytes) -> tf.Tensor:
    """Say whether the bytes hold `text` anywhere: scalar bool."""
    size = tf.maximum(tf.size(raw) - len(text) + 1, 0)
    windows = [raw[offset : offset + size] for offset in range(len(text))]
    same = [tf.equal(part, code) for part, code in zip(windows, text, strict=True)]
    return tf.reduce_any(tf.reduce_all(tf.stack(same), axis=0))


def webp_size(raw: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return height and width of a WebP as int64; 0 where its first chunk is none that is known.

    Reference:
        RFC 9649, sections 2.5 to 2.7: lossy (VP8), lossless (VP8L), extended (VP8X).
    """
    chunk = raw[15:16]
    is_lossy = tf.reduce_any(chunk == ord(" "))
    is_lossless = tf.reduce_any(chunk == ord("L"))
    is_extended = tf.reduce_any(chunk == ord("X"))
    lossy_width = read_number(raw, 26, 2, big_endian=False) % 16384
    lossy_height = read_number(raw, 28, 2, big_endian=False) % 16384
    packed = read_number(raw, 21, 4, big_endian=False)
    wide = read_number(raw, 24, 3, big_endian=False) + 1
    high = read_number(raw, 27, 3, big_endian=False) + 1
    zero = tf.zeros([], tf.int64)
    height = tf.where(is_lossy, lossy_height, zero)
    width = tf.where(is_lossy, lossy_width, zero)
    height = tf.where(is_lossless, packed // 16384 % 16384 + 1, height)
    width = tf.where(is_lossless, packed % 16384 + 1, width)
    return tf.where(is_extended, high, height), tf.where(is_extended, wide, width)


def webp_is_animated(raw: tf.Tensor) -> tf.Tensor:
    """Say whether the extended header announces an animation: scalar bool (RFC 9649, section 2.7)."""
    is_extended = tf.reduce_any(raw[15:16] == ord("X"))
    return is_extended & (read_number(raw, 20, 1, big_endian=False) // 2 % 2 == 1)


def gif_first_frame(raw: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Find where the first frame of a GIF ends, without unpacking any.

    Returns:
        int64 scalars: height and width in pixels that frame and canvas need, and the number of
        bytes up to the end of the first frame.

    Reference:
        GIF89a specification, sections 18 to 25: blocks are chains of sub-blocks of up to 255 bytes.
    """
    size = tf.size(raw, out_type=tf.int64)
    flags = read_number(raw, 10, 1, big_endian=False)
    start = 13 + tf.where(flags >= 128, 3 * 2 ** (flags % 8 + 1), tf.zeros([], tf.int64))
    at_block, in_extension, in_frame, done = (tf.constant(mode, tf.int64) for mode in range(4))
    two = tf.constant(2, tf.int64)

    def step(position: tf.Tensor, mode: tf.Tensor, frame: tf.Tensor) -> tuple[tf.Tensor, ...]:
        code = read_number(raw, position, 1, big_endian=False)
        local = read_number(raw, position + 9, 1, big_endian=False)
        table = tf.where(local >= 128, 3 * 2 ** (local % 8 + 1), tf.zeros([], tf.int64))
        is_frame = (mode == at_block) & (code == 0x2C)
        is_extension = (mode == at_block) & (code == 0x21)
        ends_chain = (mode != at_block) & (code == 0)
        # A frame: 10 bytes, its colour table, 1 byte of code size. An extension: 2 bytes.
        jump = tf.where(is_frame, 11 + table, tf.where(is_extension, two, code + 1))
        after = tf.where(ends_chain, tf.where(mode == in_frame, done, at_block), mode)
        after = tf.where(is_frame, in_frame, tf.where(is_extension, in_extension, after))
        lost = (mode == at_block) & ~is_frame & ~is_extension
        return position + jump, tf.where(lost, done, after), tf.where(is_frame, position, frame)

    end, _, frame = tf.while_loop(
        lambda position, mode, _: (mode != done) & (position < size),
        step,
        (start, at_block, tf.zeros([], tf.int64)),
    )
    height = read_number(raw, tf.stack([8, frame + 7]), 2, big_endian=False)
    width = read_number(raw, tf.stack([6, frame + 5]), 2, big_endian=False)
    return tf.reduce_max(height), tf.reduce_max(width), tf.minimum(end, size)


def jpeg_orientation(raw: tf.Tensor) -> tf.Tensor:
    """Return the EXIF orientation of a JPEG, 1 to 8: scalar int64; 1 where EXIF is absent or broken.

    Reference:
        CIPA DC-008 (Exif 2.32), section 4.5: APP1 segment, TIFF header, IFD 0, tag 0x0112.
    """
    size = tf.size(raw, out_type=tf.int64)

    def is_exif(position: tf.Tensor) -> tf.Tensor:
        marker = read_number(raw, position, 2, big_endian=True)
        return (marker == 0xFFE1) & (
            read_number(raw, position + 4, 6, big_endian=True) == 0x457869660000
        )

    def goes_on(position: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        marker = read_number(raw, position, 2, big_endian=True)
        is_segment = (marker >= 0xFFC0) & (marker != 0xFFDA) & (marker != 0xFFD9)
        return is_segment & ~is_exif(position) & (count < MAX_JPEG_SEGMENTS) & (position < size)

    def to_next(position: tf.Tensor, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return position + 2 + read_number(raw, position + 2, 2, big_endian=True), count + 1

    position, _ = tf.while_loop(goes_on, to_next, (tf.constant(2, tf.int64), tf.constant(0)))
    found = is_exif(position)
    return tf.cond(
        found, lambda: _orientation_in_tiff(raw, position + 10), lambda: tf.ones([], tf.int64)
    )


def _orientation_in_tiff(raw: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    order = read_number(raw, start, 2, big_endian=True)
    big_endian = tf.equal(order, 0x4D4D)
    known = big_endian | tf.equal(order, 0x4949)
    directory = start + read_number(raw, start + 4, 4, big_endian=big_endian)
    count = tf.minimum(read_number(raw, directory, 2, big_endian=big_endian), MAX_EXIF_ENTRIES)
    entries = directory + 2 + 12 * tf.range(count)
    tags = read_number(raw, entries, 2, big_endian=big_endian)
    kinds = read_number(raw, entries + 2, 2, big_endian=big_endian)
    values = read_number(raw, entries + 8, 2, big_endian=big_endian)
    short = 3
    fits = known & (tags == 0x0112) & (kinds == short) & (values >= 1) & (values <= 8)
    candidates = tf.concat(
        [tf.where(fits, values, tf.ones_like(values)), tf.ones([1], tf.int64)], 0
    )
    return tf.reduce_max(candidates)

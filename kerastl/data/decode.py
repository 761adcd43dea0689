"""From the bytes of a file to pixels: one function of TensorFlow operations.

Training, evaluation, `predict` and the exported graph call this very function, so a picture can never
look different where it is served. Its rules:

- The size is read from the header first; a picture over `max_pixels` is refused before it is unpacked.
- EXIF orientation of JPEG is applied. Orientation in PNG or WebP metadata is not.
- 16-bit grey PNG keeps its levels and is windowed; 16-bit colour PNG is divided by 257.
- Transparency of PNG and WebP is laid on white; that of GIF and BMP is ignored.
- Of a GIF only the first frame is unpacked. Animated WebP and TIFF are refused by name.

A refusal is a `tf.errors.InvalidArgumentError` whose text holds the reason, also in tf.data and in a
SavedModel.

Numbers are multiplied by constants, never divided: TensorFlow's graph optimiser turns a division into a
product in some contexts only, and the results must be equal to the bit in all.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import tensorflow as tf

from kerastl.data import headers

Window = tuple[float, float]

MAX_PIXELS = 50_000_000
FULL_WINDOW: Window = (0.0, 65535.0)
GREY, GREY_ALPHA, RGB_ALPHA = 0, 4, 6  # colour types of PNG
NO_PICTURE = "this is not a picture: PNG, JPEG, GIF, BMP or WebP is wanted"
NO_SIZE = "it is damaged: its header tells no size of the picture"


def decode_image(
    encoded: tf.Tensor, *, window: Window | None = None, max_pixels: int = MAX_PIXELS
) -> tf.Tensor:
    """Decode a PNG, JPEG, GIF, BMP or WebP.

    Args:
        encoded: scalar string, the bytes of the file; the content decides the kind, not a name.
        window: (low, high) in stored values of 16-bit grey PNG: low becomes 0, high 255, values
            beyond are clipped. None is the full range, 0 to 65535. Pictures of 8 bits ignore it.
        max_pixels: height times width that is refused when exceeded.

    Returns:
        `[height, width, 3]` float32 in [0, 255], RGB, upright.

    Raises:
        tf.errors.InvalidArgumentError: not a picture, damaged, too large, or of a refused kind.
        ValueError: the window is empty.
    """
    return _decoder(_checked(window), max_pixels)(encoded)


def load_image(
    encoded: tf.Tensor,
    *,
    image_size_px: int,
    window: Window | None = None,
    max_pixels: int = MAX_PIXELS,
) -> tf.Tensor:
    """Decode a picture and resize it to a square; the aspect ratio is not kept.

    Args:
        encoded, window, max_pixels: as in `decode_image`.
        image_size_px: side of the square in pixels.

    Returns:
        `[image_size_px, image_size_px, 3]` float32 in [0, 255]: bilinear, antialiased when shrinking.
    """
    image = decode_image(encoded, window=window, max_pixels=max_pixels)
    resized = tf.image.resize(image, [image_size_px, image_size_px], "bilinear", antialias=True)
    # The kernel's weights sum to 1 only up to rounding: white may come out as 255.00002.
    return tf.ensure_shape(tf.clip_by_value(resized, 0.0, 255.0), [image_size_px, image_size_px, 3])


def _checked(window: Window | None) -> Window:
    if window is None:
        return FULL_WINDOW
    low, high = float(window[0]), float(window[1])
    if not low < high:
        raise ValueError(f"a window needs low < high, got ({low:g}, {high:g})")
    return low, high


@lru_cache(maxsize=64)
def _decoder(window: Window, max_pixels: int) -> Any:
    """Return the decoder as one compiled function: traced once, called from anywhere."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
    def decode(encoded: tf.Tensor) -> tf.Tensor:
        header = headers.read_header(encoded)
        checked = _checked_bytes(encoded, header, max_pixels)
        # One assertion before, none inside: a branch with one counts as stateful, and under op
        # determinism tf.data would then decode one picture after the other.
        branches: list[Callable[[], tf.Tensor]] = [
            lambda: tf.zeros([1, 1, 3]),
            lambda: _decode_png(checked, header, window),
            lambda: _decode_jpeg(checked),
            lambda: _decode_gif(checked, header),
            lambda: _decode_bmp(checked, header),
            lambda: _decode_webp(checked),
        ]
        image = tf.switch_case(header.kind % len(branches), branches)
        return tf.ensure_shape(image, [None, None, 3])

    return decode


def _checked_bytes(encoded: tf.Tensor, header: headers.Header, max_pixels: int) -> tf.Tensor:
    """Return the bytes, which nothing may use before the header was found acceptable."""
    height, width = header.height, header.width
    # Both sides are compared first: the product of two header fields could overflow.
    fits = (height <= max_pixels) & (width <= max_pixels) & (height * width <= max_pixels)
    has_size = (height > 0) & (width > 0)
    size = tf.strings.as_string(tf.stack([width, height]))
    too_large = tf.strings.join(
        [
            tf.strings.reduce_join(size, separator=" x "),
            f"pixels (width x height) are not within the limit of {max_pixels} pixels",
        ],
        " ",
    )
    bits, compression = header.fields["bmp_bits"], header.fields["bmp_compression"]
    is_plain = (compression == 0) & (header.fields["bmp_header_size"] >= 40)
    is_plain &= tf.reduce_any(bits == tf.constant([8, 24, 32], tf.int64))
    is_animated = (header.kind == headers.WEBP) & headers.webp_is_animated(header)
    refusals = [
        (header.kind == headers.UNKNOWN, NO_PICTURE),
        (header.kind == headers.TIFF, "TIFF cannot be decoded from bytes; convert it to PNG"),
        (~has_size, NO_SIZE),
        (~fits, too_large),
        # tf.io.decode_webp writes beyond its buffer when given an animation and no number of
        # channels (TensorFlow 2.21): this keeps the process alive, not just the picture out.
        (is_animated, "animated WebP cannot be decoded; convert it to PNG"),
        (
            (header.kind == headers.BMP) & ~is_plain,
            "only uncompressed BMP of 8, 24 or 32 bits can be decoded; convert it to PNG",
        ),
    ]
    refused = tf.stack([condition for condition, _ in refusals])
    reason = tf.gather(tf.stack([text for _, text in refusals]), tf.argmax(refused))
    check = tf.debugging.Assert(~tf.reduce_any(refused), [reason], summarize=1)
    with tf.control_dependencies([check]):
        return tf.identity(encoded)


def _on_white(rgb: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
    """Lay a picture on white: `rgb` [h, w, 3] float32 in [0, 255], `alpha` [h, w, 1] in [0, 1]."""
    return 255.0 - (255.0 - rgb) * alpha


def _decode_png(encoded: tf.Tensor, header: headers.Header, window: Window) -> tf.Tensor:
    colour_type = header.fields["png_colour_type"]
    is_grey = (colour_type == GREY) | (colour_type == GREY_ALPHA)
    has_alpha = (colour_type == GREY_ALPHA) | (colour_type == RGB_ALPHA)
    # Palettes and one-colour transparency keep their alpha in this chunk.
    has_alpha |= headers.contains(encoded, b"tRNS")
    low, high = window
    offset = tf.where(is_grey, low, 0.0)
    scale = tf.where(is_grey, 255.0 / (high - low), 1.0 / 257.0)

    def levels(pixels: tf.Tensor) -> tf.Tensor:
        values = tf.cast(pixels, tf.float32)
        if pixels.dtype == tf.uint8:
            return values
        return tf.clip_by_value((values - offset) * scale, 0.0, 255.0)

    def opaque(dtype: tf.DType) -> tf.Tensor:
        return levels(tf.io.decode_png(encoded, channels=3, dtype=dtype))

    def with_alpha(dtype: tf.DType) -> tf.Tensor:
        pixels = tf.io.decode_png(encoded, channels=4, dtype=dtype)
        alpha = tf.cast(pixels[..., 3:], tf.float32) * (1.0 / dtype.max)
        return _on_white(levels(pixels[..., :3]), alpha)

    is_16_bit = tf.cast(header.fields["png_bits"] == 16, tf.int32)
    return tf.switch_case(
        is_16_bit + 2 * tf.cast(has_alpha, tf.int32),
        [
            lambda: opaque(tf.uint8),
            lambda: opaque(tf.uint16),
            lambda: with_alpha(tf.uint8),
            lambda: with_alpha(tf.uint16),
        ],
    )


def _decode_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    # The default decoding method may differ between machines; this one is exact by definition.
    stored = tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")
    image = tf.cast(stored, tf.float32)
    orientation = headers.jpeg_orientation(encoded)
    return tf.cond(orientation == 1, lambda: image, lambda: _upright(image, orientation))


def _upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turn a stored picture as its EXIF orientation (1 to 8) says: transpose, then mirror."""

    def is_one_of(*values: int) -> tf.Tensor:
        return tf.reduce_any(orientation == tf.constant(values, tf.int64))

    image = tf.cond(is_one_of(5, 6, 7, 8), lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    image = tf.cond(is_one_of(2, 3, 6, 7), lambda: tf.reverse(image, [1]), lambda: image)
    return tf.cond(is_one_of(3, 4, 7, 8), lambda: tf.reverse(image, [0]), lambda: image)


def _decode_gif(encoded: tf.Tensor, header: headers.Header) -> tf.Tensor:
    # TensorFlow unpacks every frame before it drops all but the first: hand it one frame only.
    trailer = b"\x3b"
    frame = tf.strings.substr(encoded, tf.zeros([], tf.int64), header.end)
    return tf.cast(tf.io.decode_gif(tf.strings.join([frame, trailer]))[0], tf.float32)


def _decode_bmp(encoded: tf.Tensor, header: headers.Header) -> tf.Tensor:
    pixels = tf.io.decode_bmp(encoded)

    def with_palette() -> tf.Tensor:
        raw = headers.padded_bytes(encoded)
        entries = 14 + header.fields["bmp_header_size"] + 4 * tf.range(256, dtype=tf.int64)
        blue_green_red = entries[:, None] + tf.constant([2, 1, 0], tf.int64)
        palette = tf.gather(raw, tf.minimum(blue_green_red, tf.size(raw, out_type=tf.int64) - 1))
        return tf.cast(tf.gather(palette, tf.cast(pixels[..., 0], tf.int32)), tf.float32)

    return tf.cond(
        header.fields["bmp_bits"] == 8, with_palette, lambda: tf.cast(pixels[..., :3], tf.float32)
    )


def _decode_webp(encoded: tf.Tensor) -> tf.Tensor:
    image = tf.cast(tf.io.decode_webp(encoded)[0], tf.float32)
    return tf.cond(
        tf.shape(image)[-1] == 4,
        lambda: _on_white(image[..., :3], image[..., 3:] * (1.0 / 255.0)),
        lambda: image[..., :3],
    )

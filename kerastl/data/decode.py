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

from . import headers

Window = tuple[float, float]

MAX_PIXELS = 50_000_000
FULL_WINDOW: Window = (0.0, 65535.0)
GREY, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 3, 4, 6


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
        raw = tf.io.decode_raw(encoded, tf.uint8)
        branches: list[Callable[[], tf.Tensor]] = [
            lambda: _refuse(
                encoded, "this is not a picture: PNG, JPEG, GIF, BMP or WebP is wanted"
            ),
            lambda: _decode_png(encoded, raw, window, max_pixels),
            lambda: _decode_jpeg(encoded, raw, max_pixels),
            lambda: _decode_gif(encoded, raw, max_pixels),
            lambda: _decode_bmp(encoded, raw, max_pixels),
            lambda: _decode_webp(encoded, raw, max_pixels),
            lambda: _refuse(encoded, "TIFF cannot be decoded from bytes; convert it to PNG"),
        ]
        image = tf.switch_case(headers.kind_of(raw), branches)
        return tf.ensure_shape(image, [None, None, 3])

    return decode


def _after(condition: tf.Tensor, reason: tf.Tensor | str, value: tf.Tensor) -> tf.Tensor:
    """Return `value`, which nothing may use before `condition` was found true."""
    check = tf.debugging.Assert(condition, [reason], summarize=1)
    with tf.control_dependencies([check] if check is not None else []):
        return tf.identity(value)


def _refuse(encoded: tf.Tensor, reason: str) -> tf.Tensor:
    size = _after(tf.constant(False), reason, tf.strings.length(encoded))
    return tf.zeros([size, 1, 3], tf.float32)


def _within(encoded: tf.Tensor, height: tf.Tensor, width: tf.Tensor, max_pixels: int) -> tf.Tensor:
    """Return the bytes once height times width is known to be 1 to `max_pixels`."""
    size = tf.strings.join([tf.strings.as_string(width), tf.strings.as_string(height)], " x ")
    reason = tf.strings.join(
        [size, f"pixels (width x height) are not within the limit of {max_pixels} pixels"], " "
    )
    # Both sides are compared first: the product of two header fields could overflow.
    fits = (height <= max_pixels) & (width <= max_pixels) & (height * width <= max_pixels)
    return _after((height > 0) & (width > 0) & fits, reason, encoded)


def _on_white(rgb: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
    """Lay a picture on white: `rgb` [h, w, 3] float32 in [0, 255], `alpha` [h, w, 1] float32 in [0, 1]."""
    return 255.0 - (255.0 - rgb) * alpha


def _decode_png(encoded: tf.Tensor, raw: tf.Tensor, window: Window, max_pixels: int) -> tf.Tensor:
    header = headers.png_header(raw)
    checked = _within(encoded, header.height, header.width, max_pixels)
    is_grey = (header.colour_type == GREY) | (header.colour_type == GREY_ALPHA)
    has_alpha = (header.colour_type == GREY_ALPHA) | (header.colour_type == RGB_ALPHA)
    # Palettes and one-colour transparency keep their alpha in this chunk.
    has_alpha |= headers.contains(raw, b"tRNS")

    def levels(pixels: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        values = tf.cast(pixels, tf.float32)
        if dtype == tf.uint8:
            return values
        low, high = window
        windowed = tf.clip_by_value((values - low) * (255.0 / (high - low)), 0.0, 255.0)
        return tf.cond(is_grey, lambda: windowed, lambda: values * (1.0 / 257.0))

    def decode(dtype: tf.DType) -> tf.Tensor:
        def with_alpha() -> tf.Tensor:
            pixels = tf.io.decode_png(checked, channels=4, dtype=dtype)
            alpha = tf.cast(pixels[..., 3:], tf.float32) * (1.0 / dtype.max)
            return _on_white(levels(pixels[..., :3], dtype), alpha)

        def opaque() -> tf.Tensor:
            return levels(tf.io.decode_png(checked, channels=3, dtype=dtype), dtype)

        return tf.cond(has_alpha, with_alpha, opaque)

    return tf.cond(header.bits == 16, lambda: decode(tf.uint16), lambda: decode(tf.uint8))


def _decode_jpeg(encoded: tf.Tensor, raw: tf.Tensor, max_pixels: int) -> tf.Tensor:
    shape = tf.io.extract_jpeg_shape(encoded, output_type=tf.int64)
    checked = _within(encoded, shape[0], shape[1], max_pixels)
    # The default decoding method may differ between machines; this one is exact by definition.
    image = tf.io.decode_jpeg(checked, channels=3, dct_method="INTEGER_ACCURATE")
    return _upright(tf.cast(image, tf.float32), headers.jpeg_orientation(raw))


def _upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turn a stored picture as its EXIF orientation (1 to 8) says: transpose, then mirror."""

    def is_one_of(*values: int) -> tf.Tensor:
        return tf.reduce_any(orientation == tf.constant(values, tf.int64))

    image = tf.cond(is_one_of(5, 6, 7, 8), lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    image = tf.cond(is_one_of(2, 3, 6, 7), lambda: tf.reverse(image, [1]), lambda: image)
    return tf.cond(is_one_of(3, 4, 7, 8), lambda: tf.reverse(image, [0]), lambda: image)


def _decode_gif(encoded: tf.Tensor, raw: tf.Tensor, max_pixels: int) -> tf.Tensor:
    height, width, end = headers.gif_first_frame(raw)
    checked = _within(encoded, height, width, max_pixels)
    # TensorFlow unpacks every frame before it drops all but the first: hand it one frame only.
    trailer = b"\x3b"
    first = tf.strings.join([tf.strings.substr(checked, 0, tf.cast(end, tf.int32)), trailer])
    return tf.cast(tf.io.decode_gif(first)[0], tf.float32)


def _decode_bmp(encoded: tf.Tensor, raw: tf.Tensor, max_pixels: int) -> tf.Tensor:
    def number(position: int, num_bytes: int) -> tf.Tensor:
        return headers.read_number(raw, position, num_bytes, big_endian=False)

    signed_height = tf.cast(tf.bitcast(tf.cast(number(22, 4), tf.uint32), tf.int32), tf.int64)
    checked = _within(encoded, tf.abs(signed_height), number(18, 4), max_pixels)
    bits, header_size = number(28, 2), number(14, 4)
    is_plain = (number(30, 4) == 0) & (header_size >= 40)
    is_known = tf.reduce_any(bits == tf.constant([8, 24, 32], tf.int64))
    reason = "only uncompressed BMP of 8, 24 or 32 bits can be decoded; convert it to PNG"
    checked = _after(is_plain & is_known, reason, checked)

    def with_palette() -> tf.Tensor:
        entries = 14 + header_size + 4 * tf.range(256, dtype=tf.int64)
        blue_green_red = entries[:, None] + tf.constant([2, 1, 0], tf.int64)
        palette = headers.read_number(raw, blue_green_red, 1, big_endian=False)
        indices = tf.io.decode_bmp(checked)[..., 0]
        return tf.cast(tf.gather(palette, tf.cast(indices, tf.int32)), tf.float32)

    def direct() -> tf.Tensor:
        return tf.cast(tf.io.decode_bmp(checked)[..., :3], tf.float32)

    return tf.cond(bits == 8, with_palette, direct)


def _decode_webp(encoded: tf.Tensor, raw: tf.Tensor, max_pixels: int) -> tf.Tensor:
    height, width = headers.webp_size(raw)
    checked = _within(encoded, height, width, max_pixels)
    # tf.io.decode_webp writes beyond its buffer when given an animation and channels=0 (TF 2.21):
    # this check keeps the process alive, not just the picture out.
    reason = "animated WebP cannot be decoded; convert it to PNG"
    checked = _after(~headers.webp_is_animated(raw), reason, checked)
    image = tf.cast(tf.io.decode_webp(checked)[0], tf.float32)
    return tf.cond(
        tf.shape(image)[-1] == 4,
        lambda: _on_white(image[..., :3], image[..., 3:] * (1.0 / 255.0)),
        lambda: image[..., :3],
    )

"""One resampling of a batch by one affine map an image, in operations that XLA compiles to a tight loop.

TensorFlow's own `ImageProjectiveTransformV3` has the same meaning and does not compile with XLA.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from kerastl.augment.operation import LARGEST_PIXEL


def reflected(place: tf.Tensor, size: int) -> tf.Tensor:
    """Fold places outside back in, as in a mirror at the edge: d c b a | a b c d | d c b a.

    Args:
        place: float32, in pixels.
        size: of the image along this axis.

    Returns:
        float32 in [0, size - 1].
    """
    period = 2.0 * size
    inside = place - period * tf.floor(place * (1.0 / period))
    return tf.clip_by_value(tf.minimum(inside, period - 1.0 - inside), 0.0, size - 1.0)


def repeated(place: tf.Tensor, size: int) -> tf.Tensor:
    """Fold places outside back in, as tiles do: a b c d | a b c d | a b c d.

    Args:
        place: float32, in pixels.
        size: of the image along this axis.

    Returns:
        float32 in [0, size - 1].
    """
    # TensorFlow's rule, whole periods of `size` counted by steps of `size - 1`.
    below = place + size * (tf.floor(-place / (size - 1.0)) + 1.0)
    above = place - size * tf.floor(place / (size - 1.0))
    inside = tf.where(place < 0.0, below, tf.where(place > size - 1.0, above, place))
    return tf.clip_by_value(inside, 0.0, size - 1.0)


def nearest(place: tf.Tensor, size: int) -> tf.Tensor:
    """Move places outside to the edge: a a a a | a b c d | d d d d.

    Args:
        place: float32, in pixels.
        size: of the image along this axis.

    Returns:
        float32 in [0, size - 1].
    """
    return tf.clip_by_value(place, 0.0, size - 1.0)


RIM = 1
"""Pixels of black around an image: as far as bilinear interpolation can see into the outside."""
BORDERS: dict[str, Callable[[tf.Tensor, int], tf.Tensor]] = {
    "reflect": reflected,
    "wrap": repeated,
    "nearest": nearest,
}


def warp(images: tf.Tensor, maps: tf.Tensor, *, fill_mode: str) -> tf.Tensor:
    """Show each image through its map, with bilinear interpolation.

    Args:
        images: `[batch, height, width, channels]` float32 in [0, 255].
        maps: `[batch, 6]` float32, see `kerastl.augment.geometry`.
        fill_mode: what lies outside: `reflect`, `wrap`, `nearest`, or `constant` (black).

    Returns:
        Like images. The map (1, 0, 0, 0, 1, 0) changes no byte.
    """
    places = source_coordinates(maps, *images.shape[1:3], fill_mode=fill_mode)
    return resample(images, *neighbors(*places, fill_mode=fill_mode), fill_mode=fill_mode)


def source_coordinates(maps: tf.Tensor, height: int, width: int, *, fill_mode: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Return where each pixel of the result is found.

    This function, `neighbors` and `resample` are compiled each by itself. In one function XLA would compute a place
    several times, and round it otherwise each time: 19 for the neighbor, 18.999998 for the distance from it.

    Args:
        maps: `[batch, 6]` float32.
        height, width: of the images.
        fill_mode: as in `warp`.

    Returns:
        (x, y) in the image, or in the image with its rim: two `[batch, height, width]` float32.
    """
    x, y = _places(maps, height, width)
    if fill_mode == "constant":
        return nearest(x + RIM, width + 2 * RIM), nearest(y + RIM, height + 2 * RIM)
    return BORDERS[fill_mode](x, width), BORDERS[fill_mode](y, height)


def neighbors(x: tf.Tensor, y: tf.Tensor, *, fill_mode: str) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return which four pixels lie around each place, and how near.

    Args:
        x, y: from `source_coordinates`, of the same fill mode.
        fill_mode: as in `warp`.

    Returns:
        `corner`, `[batch, height, width]` int32, the upper left of the four, counted through all pixels of
        the batch; `across` and `down`, float32, how far to the right of it and below, 0 to 1.
    """
    height, width = x.shape[1:]
    if fill_mode == "constant":
        height, width = height + 2 * RIM, width + 2 * RIM
    # At the far edge all weight is on the right and lower neighbors.
    left, top = tf.minimum(tf.floor(x), width - 2.0), tf.minimum(tf.floor(y), height - 2.0)
    image = tf.range(tf.shape(x)[0])[:, None, None] * (height * width)
    corner = image + tf.cast(top, tf.int32) * width + tf.cast(left, tf.int32)
    return corner, x - left, y - top


def resample(
    images: tf.Tensor, corner: tf.Tensor, across: tf.Tensor, down: tf.Tensor, *, fill_mode: str
) -> tf.Tensor:
    """Return the images as `neighbors` found their pixels; both take the same fill mode."""
    if fill_mode == "constant":
        images = tf.pad(images, [[0, 0], [RIM, RIM], [RIM, RIM], [0, 0]])
    width, channels = images.shape[2:]
    pixels = tf.reshape(images, [-1, channels])
    across, down = across[..., None], down[..., None]
    upper = _between(tf.gather(pixels, corner), tf.gather(pixels, corner + 1), across)
    below = corner + width
    lower = _between(tf.gather(pixels, below), tf.gather(pixels, below + 1), across)
    # The mix of two equal levels may be a last digit higher.
    return tf.minimum(_between(upper, lower, down), LARGEST_PIXEL)


def _places(maps: tf.Tensor, height: int, width: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the (x, y) in the image of every pixel of the result: two `[batch, height, width]` float32."""
    x = tf.range(width, dtype=tf.float32)[None, None, :]
    y = tf.range(height, dtype=tf.float32)[None, :, None]
    a, b, c, d, e, f = tf.unstack(maps[:, :, None, None], axis=1)
    return a * x + b * y + c, d * x + e * y + f


def _between(first: tf.Tensor, second: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """Return the mix, to the byte the first at share 0 and the second at share 1."""
    return first * (1.0 - share) + second * share

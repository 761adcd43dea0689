"""Paste a rectangle of the partner into the image; the label is shared as the pixels are.

The sides of the rectangle are the square root of a Beta(alpha, alpha) draw times the image's side, its center is any
pixel alike, and what lies outside of the image is cut off, as in the paper. The label's weight is the
share of the pixels that can be seen, counted after that.

Never: invent a pixel value (each pixel is the image's or the partner's, at its place); weigh the label
otherwise than by the pixels that are seen.

keras-cv 0.9.0 weighs the label by the rectangle before it is cut off at the borders, which is wrong by 0.17 on average,
and does not repeat with a seed.

Reference:
    Yun et al. 2019, arXiv:1905.04899, equations 1 and 2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from annotated_types import Ge, Le

from kerastl.options import StrictModel


class Options(StrictModel):
    """Options of `cut_mix`.

    Args:
        alpha: the rectangle's area, before it is cut off at the borders, is drawn from Beta(alpha, alpha) as a
            share of the image; 1 draws all areas alike, 0 mixes nothing.
        apply_probability: share of the images that get a rectangle, 0 to 1.
    """

    alpha: Annotated[float, Ge(0), Le(100)] = 1.0
    apply_probability: Annotated[float, Ge(0), Le(1)] = 1.0


def is_identity(options: Options) -> bool:
    """Return whether the options leave every image unchanged."""
    return options.alpha == 0


def build_share(options: Options, *, image_size_px: int) -> Callable[[Any, Any], Any]:
    """Return `share(generator, batch_size) -> [batch, size, size, 1]` float32: 1 inside the rectangle, 0 outside."""
    import tensorflow as tf

    from kerastl.augment.stateless_random import build_beta

    beta = build_beta(options.alpha)
    places = tf.range(image_size_px, dtype=tf.float32)

    def share(generator: Any, batch_size: Any) -> Any:
        side_px = tf.round(tf.sqrt(beta(generator.uniform([batch_size, 1]))) * image_size_px)

        def inside() -> Any:
            """Return `[batch, size]`: which rows, or columns, the rectangle covers."""
            center = tf.floor(generator.uniform([batch_size, 1]) * image_size_px)
            first = center - tf.floor(side_px / 2)
            return (places >= first) & (places < first + side_px)

        rows, columns = inside(), inside()
        return tf.cast(rows[:, :, None, None] & columns[:, None, :, None], tf.float32)

    return share

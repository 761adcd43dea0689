"""Paste a rectangle of the partner into the image; the label weight is the visible area of the rectangle.

The side of the rectangle is the square root of a Beta(alpha, alpha) sample times the image side. Its center
is uniform over all pixels, and parts outside the image are cut off, as in the paper.

keras-cv 0.9.0 computes the label weight before cutting at the borders, a mean error of 0.17, and is not
reproducible.

Reference:
    Yun et al. 2019, arXiv:1905.04899, equations 1 and 2.
"""

from collections.abc import Callable
from typing import Annotated, Any

from annotated_types import Ge, Le

from kerastl.options import Fraction, StrictModel


class Options(StrictModel):
    """Options of `cut_mix`.

    Args:
        alpha: The area of the rectangle, before cutting at the borders, follows Beta(alpha, alpha) as a
            fraction of the image. 1 is uniform, 0 is the identity.
        apply_probability: Fraction of the images that receive a rectangle, 0 to 1.
    """

    alpha: Annotated[float, Ge(0), Le(100)] = 1.0
    apply_probability: Fraction = 1.0


def build_weights(options: Options, *, image_size_px: int) -> Callable[[Any, Any], Any]:
    """Return a function from (generator, batch_size) to weights `[batch, size, size, 1]`: 1 in the rectangle."""
    import tensorflow as tf

    from kerastl.augment.stateless_random import build_beta

    beta = build_beta(options.alpha)
    pixels = tf.range(image_size_px, dtype=tf.float32)

    def weights(generator: Any, batch_size: Any) -> Any:
        side_px = tf.round(tf.sqrt(beta(generator.uniform([batch_size, 1]))) * image_size_px)

        def covered() -> Any:
            """Return the rows or columns that the rectangle covers, `[batch, size]` bool."""
            center = tf.floor(generator.uniform([batch_size, 1]) * image_size_px)
            first = center - tf.floor(side_px / 2)
            return (pixels >= first) & (pixels < first + side_px)

        rows, columns = covered(), covered()
        return tf.cast(rows[:, :, None, None] & columns[:, None, :, None], tf.float32)

    return weights

"""Paste a rectangle of the partner into the image; the label weight is the visible area of the rectangle.

The sides of the rectangle are the square root of a Beta(alpha, alpha) sample times those of the image. Its center
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


def build_weights(options: Options, *, image_size_px: tuple[int, int]) -> Callable[[Any, Any], Any]:
    """Return a function from (generator, batch_size) to weights `[batch, height, width, 1]`: 1 in the rectangle."""
    import tensorflow as tf

    from kerastl.augment.stateless_random import build_beta

    beta = build_beta(options.alpha)

    def weights(generator: Any, batch_size: Any) -> Any:
        fraction = tf.sqrt(beta(generator.uniform([batch_size, 1])))

        def covered(length_px: int) -> Any:
            """Return the rows or columns that the rectangle covers, `[batch, length_px]` bool."""
            side_px = tf.round(fraction * length_px)
            center = tf.floor(generator.uniform([batch_size, 1]) * length_px)
            first = center - tf.floor(side_px / 2)
            pixels = tf.range(length_px, dtype=tf.float32)
            return (pixels >= first) & (pixels < first + side_px)

        rows, columns = (covered(length_px) for length_px in image_size_px)
        return tf.cast(rows[:, :, None, None] & columns[:, None, :, None], tf.float32)

    return weights

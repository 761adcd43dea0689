"""Fill blots of random shape with the partner (FMix); the label is shared as the pixels are.

A gray image is drawn in Fourier space: complex normal numbers, divided by the frequency to the power of `decay_power`, so
that large forms prevail. Its brightest pixels, as many as a Beta(alpha, alpha) draw says, become the partner's.
The label's weight is the exact share of those pixels.

Never: invent a pixel value (each pixel is the image's or the partner's, at its place); weigh the label
otherwise than by the pixels that are seen; prefer a direction.

The authors' code draws half a spectrum, and the real part of that halves the power of its first column: bands that lie
across come out weaker than upright ones. Here both are alike, as the paper's formula has them. keras-cv 0.9.0 takes two
rows of its numbers for their real and imaginary part: its masks have no frequency above 1 across the image, so that they
are bands and not blots. It does not repeat with a seed, and draws image by image.

Reference:
    Harris et al. 2020, arXiv:2002.12047 (FMix); alpha 1 and decay power 3 as there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from annotated_types import Ge, Le

from kerastl.options import StrictModel

HALVINGS = 24
"""Of the range of the gray values, down to the digits of a float32. Pixels that are equal to all of these digits, at the
threshold, go the same way: one image in a few hundred has a pixel more or less than was drawn, and its label, too."""


class Options(StrictModel):
    """Options of `fourier_mix`.

    Args:
        alpha: the partner's share of the pixels is drawn from Beta(alpha, alpha); 1 draws all shares alike, 0
            mixes nothing.
        decay_power: how fast high frequencies fade: 1 gives ragged shapes, 3 a few large ones.
        apply_probability: share of the images that are mixed, 0 to 1.
    """

    alpha: Annotated[float, Ge(0), Le(100)] = 1.0
    decay_power: Annotated[float, Ge(0), Le(10)] = 3.0
    apply_probability: Annotated[float, Ge(0), Le(1)] = 1.0


def is_identity(options: Options) -> bool:
    """Return whether the options leave every image unchanged."""
    return options.alpha == 0


def build_share(options: Options, *, image_size_px: int) -> Callable[[Any, Any], Any]:
    """Return `share(generator, batch_size) -> [batch, size, size, 1]` float32: 1 in the blots, 0 outside."""
    import tensorflow as tf

    from kerastl.augment.stateless_random import build_beta

    beta = build_beta(options.alpha)

    def share(generator: Any, batch_size: Any) -> Any:
        wanted = beta(generator.uniform([batch_size, 1, 1]))
        gray = low_frequencies(generator, batch_size, image_size_px, options.decay_power)
        count = tf.round(wanted * image_size_px**2)
        return tf.cast(_brightest(gray, count), tf.float32)[..., None]

    return share


def low_frequencies(generator: Any, batch_size: Any, image_size_px: int, decay_power: float) -> Any:
    """Return `[batch, size, size]` float32 gray images of large forms.

    Computed in float64: TensorFlow's formulas differ in the last digit between batches of different size, and of a
    float64 that digit is rounded away.
    """
    import numpy as np
    import tensorflow as tf

    down, right = np.fft.fftfreq(image_size_px), np.fft.rfftfreq(image_size_px)
    # The mean has frequency 0 and takes the lowest other one, as in the paper's code: it moves all pixels alike.
    frequency = np.maximum(np.hypot(down[:, None], right[None, :]), 1 / image_size_px)
    heights = (frequency * image_size_px) ** -decay_power
    # The paper takes the real part of a whole spectrum, which pairs every frequency with its opposite; half a spectrum
    # pairs only those in its first column, and at even sizes in its last, and so would halve their power.
    heights[:, right % 0.5 == 0] *= np.sqrt(2.0)
    amplitude = tf.constant(heights, tf.float64)
    unit = tf.cast(generator.uniform([batch_size, 2, *amplitude.shape]), tf.float64)
    # Box & Muller 1958: two uniform numbers make one complex normal one; 1 - unit is never 0.
    length = amplitude * tf.sqrt(-2.0 * tf.math.log(1.0 - unit[:, 0]))
    angle = 2.0 * np.pi * unit[:, 1]
    spectrum = tf.complex(length * tf.cos(angle), length * tf.sin(angle))
    return tf.cast(tf.signal.irfft2d(spectrum, [image_size_px, image_size_px]), tf.float32)


def _brightest(gray: Any, count: Any) -> Any:
    """Return which pixels are the `count` brightest: `[batch, size, size]` bool.

    Args:
        gray: `[batch, size, size]` float32.
        count: `[batch, 1, 1]` float32, whole numbers.
    """
    import tensorflow as tf

    # Halving finds the threshold several times faster than sorting the pixels does.
    low = tf.reduce_min(gray, [1, 2], keepdims=True) - 1.0
    high = tf.reduce_max(gray, [1, 2], keepdims=True)
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        above = tf.reduce_sum(tf.cast(gray > middle, tf.float32), [1, 2], keepdims=True)
        low, high = tf.where(above > count, middle, low), tf.where(above > count, high, middle)
    return gray > high

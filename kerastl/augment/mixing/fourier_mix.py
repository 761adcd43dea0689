"""Paste random blobs of the partner into the image (FMix); the label weight is the area of the blobs.

A gray image is sampled in Fourier space: complex normal numbers divided by the frequency to the power
`decay_power`. Its brightest pixels, a fraction that follows Beta(alpha, alpha), are taken from the partner.

The authors' code and keras-cv 0.9.0 sample spectra that favor some directions; here blobs have none, as in
the formula of the paper. keras-cv is not reproducible and processes images one by one.

Reference:
    Harris et al. 2020, arXiv:2002.12047; alpha 1 and decay power 3 as there.
"""

import math
from collections.abc import Callable
from typing import Annotated, Any

from annotated_types import Ge, Le

from kerastl.options import Fraction, StrictModel

HALVINGS = 24
"""Bisection steps, the digits of a float32. Pixels that tie at the threshold are treated alike."""


class Options(StrictModel):
    """Options of `fourier_mix`.

    Args:
        alpha: The partner's fraction of the pixels follows Beta(alpha, alpha). 1 is uniform, 0 is the
            identity.
        decay_power: Decay of high frequencies: 1 gives ragged blobs, 3 a few large ones.
        apply_probability: Fraction of the images that are mixed, 0 to 1.
    """

    alpha: Annotated[float, Ge(0), Le(100)] = 1.0
    decay_power: Annotated[float, Ge(0), Le(10)] = 3.0
    apply_probability: Fraction = 1.0


def build_weights(options: Options, *, image_size_px: tuple[int, int]) -> Callable[[Any, Any], Any]:
    """Return a function from (generator, batch_size) to weights `[batch, height, width, 1]`: 1 in the blobs."""
    import tensorflow as tf

    from kerastl.augment.stateless_random import build_beta

    beta = build_beta(options.alpha)

    def weights(generator: Any, batch_size: Any) -> Any:
        fraction = beta(generator.uniform([batch_size, 1, 1]))
        gray = low_frequencies(generator, batch_size, image_size_px, options.decay_power)
        count = tf.round(fraction * math.prod(image_size_px))
        return tf.cast(_brightest(gray, count), tf.float32)[..., None]

    return weights


def low_frequencies(
    generator: Any, batch_size: Any, image_size_px: tuple[int, int], decay_power: float
) -> Any:
    """Sample low-frequency gray images, `[batch, height, width]` float32.

    Computed in float64, because TensorFlow's float32 functions round differently for each batch size.
    """
    import numpy as np
    import tensorflow as tf

    height_px, width_px = image_size_px
    down, right = np.fft.fftfreq(height_px), np.fft.rfftfreq(width_px)
    # As in the paper's code, the mean gets the lowest nonzero frequency; it shifts all pixels alike.
    frequency = np.maximum(np.hypot(down[:, None], right[None, :]), 1 / max(image_size_px))
    heights = (frequency * max(image_size_px)) ** -decay_power
    # The real part of a full spectrum, as in the paper, pairs each frequency with its opposite. A half spectrum pairs
    # only those of its first column, and at even sizes of its last, which halves their power.
    heights[:, right % 0.5 == 0] *= np.sqrt(2.0)
    amplitude = tf.constant(heights, tf.float64)
    unit = tf.cast(generator.uniform([batch_size, 2, *amplitude.shape]), tf.float64)
    # Box-Muller transform; 1 - unit is never 0.
    length = amplitude * tf.sqrt(-2.0 * tf.math.log(1.0 - unit[:, 0]))
    angle = 2.0 * np.pi * unit[:, 1]
    spectrum = tf.complex(length * tf.cos(angle), length * tf.sin(angle))
    return tf.cast(tf.signal.irfft2d(spectrum, image_size_px), tf.float32)


def _brightest(gray: Any, count: Any) -> Any:
    """Return a mask of the brightest pixels.

    Args:
        gray: `[batch, height, width]` float32.
        count: Number of pixels, `[batch, 1, 1]` float32 integers.

    Returns:
        `[batch, height, width]` bool.
    """
    import tensorflow as tf

    # Bisection finds the threshold several times faster than sorting.
    low = tf.reduce_min(gray, [1, 2], keepdims=True) - 1.0
    high = tf.reduce_max(gray, [1, 2], keepdims=True)
    for _ in range(HALVINGS):
        midpoint = (low + high) / 2.0
        above = tf.reduce_sum(tf.cast(gray > midpoint, tf.float32), [1, 2], keepdims=True)
        low, high = tf.where(above > count, midpoint, low), tf.where(above > count, high, midpoint)
    return gray > high

"""The low frequencies of one picture in another."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from kerastl.adaptation.styles.grey import greyed, in_range


def fourier_style(images: Any, styles: Any, *, beta: float) -> tf.Tensor:
    """Give pictures the low-frequency amplitudes of others; every phase, and so every edge, stays in its place.

    With F the discrete Fourier transform of one channel, A its amplitude and P its phase, the picture becomes the inverse transform
    of `M * A(style) * exp(i P(image)) + (1 - M) * F(image)`, clipped to [0, 255]. M is 1 for the frequencies
    `|row| <= floor(beta * h)` and `|column| <= floor(beta * w)` cycles a picture: where `beta * h < 1`, for the mean alone.

    Args:
        images, styles: `[batch, h, w, 3]` in [0, 255], of one size.
        beta: 0 to 0.5, half the side of the window as a share of the picture's.

    Returns:
        `[batch, h, w, 3]` float32 in [0, 255]; a grey picture (three equal channels) stays grey.

    Reference:
        Yang & Soatto 2020, arXiv:2004.05498, equations 1 and 2.
    """
    images, styles, _ = greyed(images, styles)
    size = tf.shape(images)[1:3]
    own, others = (_transformed(one) for one in (images, styles))
    amplitude, phase = tf.abs(others), tf.math.angle(own)
    restyled = tf.complex(amplitude * tf.cos(phase), amplitude * tf.sin(phase))
    mixed = tf.where(_window(size, beta), restyled, own)
    back = tf.signal.irfft2d(mixed, fft_length=size)
    return in_range(tf.transpose(back, [0, 2, 3, 1]))


def _transformed(images: tf.Tensor) -> tf.Tensor:
    """Return the half of the transform that a real picture needs: `[batch, 3, h, w // 2 + 1]` complex64."""
    return tf.signal.rfft2d(tf.transpose(images, [0, 3, 1, 2]))


def _window(size: tf.Tensor, beta: float) -> tf.Tensor:
    """Return which frequencies are replaced: `[h, w // 2 + 1]` bool."""
    height, width = size[0], size[1]
    reach = tf.cast(tf.floor(beta * tf.cast(size, tf.float32)), tf.int32)
    rows = tf.range(height)
    rows = tf.minimum(
        rows, height - rows
    )  # the upper half of the rows are the negative frequencies
    columns = tf.range(width // 2 + 1)
    return (rows <= reach[0])[:, None] & (columns <= reach[1])[None, :]

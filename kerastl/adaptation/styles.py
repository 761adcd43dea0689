"""Styles: transfer colors, histograms or low frequencies from target images to source images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl.adaptation.adaptation_step import SourceStep, step_seeds
from kerastl.augment.stateless_random import StatelessGenerator
from kerastl.training.step import Batches, Losses

GRAY_TOLERANCE = 0.5
"""Largest difference between the channels of a gray image, of 255: half a level of an 8-bit image."""


def _match_gray(images: Any, styles: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return images and styles in float32, both with equal channels if the image is gray.

    For a gray image, a color style is replaced by the mean of its channels.

    Args:
        images, styles: `[batch, h, w, 3]` in [0, 255].

    Returns:
        Images, styles, and `[batch, 1, 1, 1]` bool, whether the image is gray.
    """
    images, styles = (tf.cast(values, tf.float32) for values in (images, styles))
    level = tf.reduce_mean(images, -1, keepdims=True)
    difference = tf.reduce_max(tf.abs(images - level), [1, 2, 3], keepdims=True)
    is_gray = difference < GRAY_TOLERANCE
    style_level = tf.reduce_mean(styles, -1, keepdims=True)
    return (
        tf.where(is_gray, tf.broadcast_to(level, tf.shape(images)), images),
        tf.where(is_gray, tf.broadcast_to(style_level, tf.shape(styles)), styles),
        is_gray,
    )


_CONES = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]], np.float64)
"""RGB to cone responses, equation 4. Rows are normalized, so that gray has equal responses."""
TO_CONES = _CONES / _CONES.sum(axis=1, keepdims=True)
TO_OPPONENTS = np.diag(1 / np.sqrt([3.0, 6.0, 2.0])) @ np.array(
    [[1.0, 1.0, 1.0], [1.0, 1.0, -2.0], [1.0, -1.0, 0.0]]
)
"""Logarithms of the responses to l (lightness), alpha (yellow-blue) and beta (red-green), equation 6."""
MIN_STD = 1e-4
"""A smaller standard deviation is due to rounding, and the channel is not scaled."""


def reinhard_style(images: Any, styles: Any) -> tf.Tensor:
    """Transfer the mean and standard deviation of each channel from style images to images.

    `(x - mean(image)) * std(style) / std(image) + mean(style)`, clipped to [0, 255]. Color images are
    transformed in l-alpha-beta space: `log10(1 + v)` of the cone responses v (0 to 255), rotated; the 1 makes
    the logarithm of black finite. Gray images (three equal channels) are transformed in their gray levels and
    stay gray. There a brighter scanner or one with less contrast shifts and scales the levels, and a
    logarithm would give dark air the largest weight.

    Args:
        images, styles: `[batch, h, w, 3]` in [0, 255].

    Returns:
        `[batch, h, w, 3]` float32 in [0, 255]. A constant channel gets only the mean of the style.

    Reference:
        Reinhard et al. 2001, doi 10.1109/38.946629, equations 4 to 8 and 10 to 11.
    """
    images, styles, is_gray = _match_gray(images, styles)
    level = _match_moments(images, styles)
    color = _from_opponents(_match_moments(_to_opponents(images), _to_opponents(styles)))
    return tf.clip_by_value(tf.where(is_gray, level, color), 0.0, 255.0)


def _match_moments(values: tf.Tensor, styles: tf.Tensor) -> tf.Tensor:
    (mean, std), (style_mean, style_std) = (_moments(images) for images in (values, styles))
    is_constant = std < MIN_STD
    scale = tf.where(is_constant, 1.0, style_std / tf.where(is_constant, 1.0, std))
    return (values - mean) * scale + style_mean


def _moments(values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the mean and standard deviation of each channel of each image: `[batch, 1, 1, 3]` float32."""
    mean = tf.reduce_mean(values, [1, 2], keepdims=True)
    return mean, tf.sqrt(tf.reduce_mean((values - mean) ** 2, [1, 2], keepdims=True))


def _to_opponents(images: tf.Tensor) -> tf.Tensor:
    cones = tf.maximum(_rotated(images, TO_CONES), 0.0)
    return _rotated(tf.math.log1p(cones) / np.float32(np.log(10)), TO_OPPONENTS)


def _from_opponents(values: tf.Tensor) -> tf.Tensor:
    logarithms = _rotated(values, np.linalg.inv(TO_OPPONENTS)) * np.float32(np.log(10))
    # Far beyond the range of an image; larger values would overflow.
    cones = tf.math.expm1(tf.minimum(logarithms, 20.0))
    return _rotated(cones, np.linalg.inv(TO_CONES))


def _rotated(values: tf.Tensor, matrix: np.ndarray[Any, Any]) -> tf.Tensor:
    return tf.tensordot(values, tf.constant(matrix.T, tf.float32), 1)


STEPS = 4
"""Steps per gray level: more levels than a 10-bit image has."""
NUM_LEVELS = 255 * STEPS + 1


def histogram_style(images: Any, styles: Any) -> tf.Tensor:
    """Transfer the histogram of each channel from style images to images.

    Values are rounded to quarters of a gray level, which does not change 8-bit images. The level at quantile
    q of the image becomes the level at quantile q of the style, interpolated between the levels that occur in
    the style. Ties are not broken: pixels with equal levels keep equal levels, so an image with few levels
    only approximates the histogram of the style.

    Args:
        images, styles: `[batch, h, w, 3]` in [0, 255], of equal size, up to 4096 x 4096 pixels.

    Returns:
        `[batch, h, w, 3]` float32 in [0, 255]; a gray image (three equal channels) stays gray.

    Reference:
        Gonzalez & Woods 2008, Digital Image Processing, section 3.3.2 (histogram specification).
    """
    images, styles, _ = _match_gray(images, styles)
    levels, shape = _levels(images), tf.shape(images)
    table = _lookup_table(_cumulative(levels), _cumulative(_levels(styles)))
    matched = tf.gather(table, levels, batch_dims=1)
    return tf.transpose(tf.reshape(matched, [shape[0], 3, shape[1], shape[2]]), [0, 2, 3, 1])


def _levels(images: tf.Tensor) -> tf.Tensor:
    """Return the quarter levels of each channel: `[batch * 3, pixels]` int32."""
    pixels = tf.shape(images)[1] * tf.shape(images)[2]
    rows = tf.reshape(tf.transpose(images, [0, 3, 1, 2]), [-1, pixels])
    return tf.clip_by_value(tf.cast(tf.round(rows * STEPS), tf.int32), 0, NUM_LEVELS - 1)


def _cumulative(levels: tf.Tensor) -> tf.Tensor:
    """Return the number of pixels up to each level: `[rows, levels]` int32."""
    rows = tf.shape(levels)[0]
    bins = levels + tf.range(rows)[:, None] * NUM_LEVELS
    counts = tf.math.unsorted_segment_sum(tf.ones_like(bins), bins, rows * NUM_LEVELS)
    return tf.cumsum(tf.reshape(counts, [rows, NUM_LEVELS]), axis=1)


def _lookup_table(counts: tf.Tensor, style: tf.Tensor) -> tf.Tensor:
    """Return the new value of each level: `[rows, levels]` float32, from two cumulative histograms.

    Comparing integer counts instead of quantiles avoids rounding errors.
    """
    upper = tf.searchsorted(style, counts, side="left")
    # The next lower level of the style has `before` pixels up to it; none if `upper` is the lowest level.
    before = tf.gather(style, tf.maximum(upper - 1, 0), batch_dims=1)
    before = tf.where(upper > 0, before, 0)
    lower = tf.where(before > 0, tf.searchsorted(style, before, side="left"), upper)
    up_to_upper = tf.gather(style, upper, batch_dims=1)
    gap, width = (tf.cast(number - before, tf.float32) for number in (counts, up_to_upper))
    fraction = tf.math.divide_no_nan(gap, width)
    start, end = (tf.cast(level, tf.float32) for level in (lower, upper))
    return (start + fraction * (end - start)) / STEPS


def fourier_style(images: Any, styles: Any, *, beta: float) -> tf.Tensor:
    """Transfer low-frequency amplitudes from style images to images; phases do not change.

    With F the discrete Fourier transform of one channel, A its amplitude and P its phase, the image becomes
    the inverse transform of `M * A(style) * exp(i P(image)) + (1 - M) * F(image)`, clipped to [0, 255]. M is
    1 for the frequencies `|row| <= floor(beta * h)` and `|column| <= floor(beta * w)` cycles per image; if
    `beta * h < 1`, only for the mean.

    Args:
        images, styles: `[batch, h, w, 3]` in [0, 255], of equal size.
        beta: 0 to 0.5, half the side of the window as a fraction of the image side.

    Returns:
        `[batch, h, w, 3]` float32 in [0, 255]; a gray image (three equal channels) stays gray.

    Reference:
        Yang & Soatto 2020, arXiv:2004.05498, equations 1 and 2.
    """
    images, styles, _ = _match_gray(images, styles)
    size = tf.shape(images)[1:3]
    # The non-redundant half of the transform of a real image: `[batch, 3, h, w // 2 + 1]` complex64.
    spectrum, style_spectrum = (
        tf.signal.rfft2d(tf.transpose(values, [0, 3, 1, 2])) for values in (images, styles)
    )
    amplitude, phase = tf.abs(style_spectrum), tf.math.angle(spectrum)
    restyled = tf.complex(amplitude * tf.cos(phase), amplitude * tf.sin(phase))
    mixed = tf.where(_window(size, beta), restyled, spectrum)
    inverse = tf.signal.irfft2d(mixed, fft_length=size)
    return tf.clip_by_value(tf.transpose(inverse, [0, 2, 3, 1]), 0.0, 255.0)


def _window(size: tf.Tensor, beta: float) -> tf.Tensor:
    """Return whether a frequency is replaced: `[h, w // 2 + 1]` bool."""
    height, width = size[0], size[1]
    reach = tf.cast(tf.floor(beta * tf.cast(size, tf.float32)), tf.int32)
    rows = tf.range(height)
    rows = tf.minimum(rows, height - rows)  # The upper half of the rows holds the negative frequencies.
    columns = tf.range(width // 2 + 1)
    return (rows <= reach[0])[:, None] & (columns <= reach[1])[None, :]


Style = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""`(images, styles) -> images`, all `[batch, h, w, 3]` float32 in [0, 255]."""


class StyleTransferStep(SourceStep):
    """Classification of source images in the style of the target images of the same step.

    Each source image gets the style of the target image at the same position in its batch; a smaller target
    batch is repeated. Both streams are shuffled independently, so the pairs differ in each epoch.

    Args:
        style: A function that transfers the style of the second images to the first ones.
        share: Probability, 0 to 1, that a source image is restyled.
        beside: Whether to train on the original images, too, in a separate forward pass with the same weight.
        step_arguments: As in `AdaptationStep`.
    """

    stream_names = ("source", "target")

    def __init__(self, style: Style, *, share: float, beside: bool, **step_arguments: Any) -> None:
        super().__init__(**step_arguments)
        self._style, self._share, self._beside = style, share, beside

    def losses(self, model: keras.Model, batches: Batches, progress: tf.Tensor) -> Losses:
        """Return `loss` and `accuracy` of the restyled images, with `beside` averaged with the originals."""
        restyled = super().losses(model, batches, progress)
        if not self._beside:
            return restyled
        originals = self.classify(model, batches["source"], progress)
        return {name: (restyled[name] + originals[name]) / 2.0 for name in restyled}

    def change_images(self, batches: Batches, progress: tf.Tensor) -> tf.Tensor:
        """Return the restyled source images: `[batch, h, w, 3]` float32 in [0, 255]."""
        images, _, indices = batches["source"]
        targets = batches["target"][0]
        styles = tf.gather(targets, tf.range(tf.shape(images)[0]) % tf.shape(targets)[0])
        restyled = self._style(images, styles)
        if self._share >= 1:
            return restyled
        draws = StatelessGenerator(step_seeds(self.seed, progress, indices), 0).uniform([None])
        return tf.where((draws < self._share)[:, None, None, None], restyled, images)

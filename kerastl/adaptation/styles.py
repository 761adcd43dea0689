"""The mean and spread of one image's colours in another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl.adaptation.adaptation_step import AdaptationStep, features_and_logits, step_seeds
from kerastl.augment.stateless_random import StatelessGenerator
from kerastl.training.step import Batch

NEARLY_GREY = 0.5
"""Grey levels, of 255, that the channels of a grey image may differ by: half a level of an 8-bit image."""


def greyed(images: Any, styles: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return images and styles in float32, both of equal channels where the image is grey.

    A colour style has no colour to give to a grey image: the mean of its channels stands for it.

    Args:
        images, styles: `[batch, h, w, 3]` in [0, 255].

    Returns:
        Images, styles, and `[batch, 1, 1, 1]` bool: whether the image is grey.
    """
    images, styles = (tf.cast(one, tf.float32) for one in (images, styles))
    level = tf.reduce_mean(images, -1, keepdims=True)
    furthest = tf.reduce_max(tf.abs(images - level), [1, 2, 3], keepdims=True)
    is_grey = furthest < NEARLY_GREY
    style_level = tf.reduce_mean(styles, -1, keepdims=True)
    return (
        tf.where(is_grey, tf.broadcast_to(level, tf.shape(images)), images),
        tf.where(is_grey, tf.broadcast_to(style_level, tf.shape(styles)), styles),
        is_grey,
    )


def in_range(images: tf.Tensor) -> tf.Tensor:
    """Return images clipped to [0, 255]."""
    return tf.clip_by_value(images, 0.0, 255.0)


_CONES = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]], np.float64)
"""RGB to the responses of the three kinds of cones, equation 4; each row is made to sum to 1, so that grey excites them alike."""
TO_CONES = _CONES / _CONES.sum(axis=1, keepdims=True)
TO_OPPONENTS = np.diag(1 / np.sqrt([3.0, 6.0, 2.0])) @ np.array(
    [[1.0, 1.0, 1.0], [1.0, 1.0, -2.0], [1.0, -1.0, 0.0]]
)
"""Logarithms of these to l (light), alpha (yellow against blue) and beta (red against green), equation 6."""
LEAST_SPREAD = 1e-4
"""A spread below this is rounding: nothing is stretched by it."""


def reinhard_style(images: Any, styles: Any) -> tf.Tensor:
    """Give images the mean and standard deviation of others, channel by channel, over all pixels of an image.

    `(x - mean(image)) * std(style) / std(image) + mean(style)`, clipped to [0, 255]. Colour images in l-alpha-beta:
    `log10(1 + v)` of the cones' responses v (0 to 255), rotated; the 1 gives black a logarithm. Grey images (three equal
    channels) in their grey levels, without a logarithm: there a scanner that is brighter or of less contrast is a scanner
    whose levels are shifted and stretched, and dark air would weigh most. They stay grey.

    Args:
        images, styles: `[batch, h, w, 3]` in [0, 255].

    Returns:
        `[batch, h, w, 3]` float32 in [0, 255]. A channel that is flat in the image gets the style's mean alone.

    Reference:
        Reinhard et al. 2001, doi 10.1109/38.946629, equations 4 to 8 and 10 to 11.
    """
    images, styles, is_grey = greyed(images, styles)
    level = _matched(images, styles, least=LEAST_SPREAD)
    colour = _from_opponents(_matched(_to_opponents(images), _to_opponents(styles), least=LEAST_SPREAD))
    return in_range(tf.where(is_grey, level, colour))


def _matched(values: tf.Tensor, styles: tf.Tensor, *, least: float) -> tf.Tensor:
    (mean, spread), (style_mean, style_spread) = (_moments(one) for one in (values, styles))
    flat = spread < least
    scale = tf.where(flat, 1.0, style_spread / tf.where(flat, 1.0, spread))
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
    # Far beyond what an image holds; the exponential of more would be no number.
    cones = tf.math.expm1(tf.minimum(logarithms, 20.0))
    return _rotated(cones, np.linalg.inv(TO_CONES))


def _rotated(values: tf.Tensor, matrix: np.ndarray[Any, Any]) -> tf.Tensor:
    return tf.tensordot(values, tf.constant(matrix.T, tf.float32), 1)


STEPS = 4
"""Steps that a grey level is divided into: more levels than a 10-bit image has."""
NUM_LEVELS = 255 * STEPS + 1


def histogram_style(images: Any, styles: Any) -> tf.Tensor:
    """Give images the cumulative histogram of others, channel by channel.

    Levels are rounded to quarters of a grey level (8-bit images are unchanged by that). A level that is reached by the share q of the
    image's pixels, itself included, becomes the level that is reached by the share q of the style's, interpolated between
    the levels that the style has. Pixels of one level stay pixels of one level: ties are not broken, so an image with few levels gets
    near the style's histogram, not all the way.

    Args:
        images, styles: `[batch, h, w, 3]` in [0, 255], of one size, of up to 4096 x 4096 pixels.

    Returns:
        `[batch, h, w, 3]` float32 in [0, 255]; a grey image (three equal channels) stays grey.

    Reference:
        Gonzalez & Woods 2008, Digital Image Processing, section 3.3.2 (histogram specification).
    """
    images, styles, _ = greyed(images, styles)
    levels, shape = _levels(images), tf.shape(images)
    table = _table(_cumulative(levels), _cumulative(_levels(styles)))
    matched = tf.gather(table, levels, batch_dims=1)
    return tf.transpose(tf.reshape(matched, [shape[0], 3, shape[1], shape[2]]), [0, 2, 3, 1])


def _levels(images: tf.Tensor) -> tf.Tensor:
    """Return the quarter levels of each channel: `[batch * 3, pixels]` int32."""
    pixels = tf.shape(images)[1] * tf.shape(images)[2]
    rows = tf.reshape(tf.transpose(images, [0, 3, 1, 2]), [-1, pixels])
    return tf.clip_by_value(tf.cast(tf.round(rows * STEPS), tf.int32), 0, NUM_LEVELS - 1)


def _cumulative(levels: tf.Tensor) -> tf.Tensor:
    """Return how many pixels reach each level: `[rows, levels]` int32."""
    rows = tf.shape(levels)[0]
    at = levels + tf.range(rows)[:, None] * NUM_LEVELS
    ones = tf.ones([tf.size(at)], tf.int32)
    counts = tf.math.unsorted_segment_sum(ones, tf.reshape(at, [-1]), rows * NUM_LEVELS)
    return tf.cumsum(tf.reshape(counts, [rows, NUM_LEVELS]), axis=1)


def _table(reached: tf.Tensor, style: tf.Tensor) -> tf.Tensor:
    """Return what becomes of each level: `[rows, levels]` float32, from two cumulative histograms of equal sums.

    Whole numbers of pixels are compared, not shares of them, so that no rounding moves a level.
    """
    upper = tf.searchsorted(style, reached, side="left")
    # The style's level below `upper`, reached by `before` pixels; none where `upper` is its lowest.
    before = tf.gather(style, tf.maximum(upper - 1, 0), batch_dims=1)
    before = tf.where(upper > 0, before, 0)
    lower = tf.where(before > 0, tf.searchsorted(style, before, side="left"), upper)
    there = tf.gather(style, upper, batch_dims=1)
    part = tf.math.divide_no_nan(tf.cast(reached - before, tf.float32), tf.cast(there - before, tf.float32))
    start, end = (tf.cast(one, tf.float32) for one in (lower, upper))
    return (start + part * (end - start)) / STEPS


def fourier_style(images: Any, styles: Any, *, beta: float) -> tf.Tensor:
    """Give images the low-frequency amplitudes of others; every phase, and so every edge, stays in its place.

    With F the discrete Fourier transform of one channel, A its amplitude and P its phase, the image becomes the inverse transform
    of `M * A(style) * exp(i P(image)) + (1 - M) * F(image)`, clipped to [0, 255]. M is 1 for the frequencies
    `|row| <= floor(beta * h)` and `|column| <= floor(beta * w)` cycles an image: where `beta * h < 1`, for the mean alone.

    Args:
        images, styles: `[batch, h, w, 3]` in [0, 255], of one size.
        beta: 0 to 0.5, half the side of the window as a share of the image's.

    Returns:
        `[batch, h, w, 3]` float32 in [0, 255]; a grey image (three equal channels) stays grey.

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
    """Return the half of the transform that a real image needs: `[batch, 3, h, w // 2 + 1]` complex64."""
    return tf.signal.rfft2d(tf.transpose(images, [0, 3, 1, 2]))


def _window(size: tf.Tensor, beta: float) -> tf.Tensor:
    """Return which frequencies are replaced: `[h, w // 2 + 1]` bool."""
    height, width = size[0], size[1]
    reach = tf.cast(tf.floor(beta * tf.cast(size, tf.float32)), tf.int32)
    rows = tf.range(height)
    rows = tf.minimum(rows, height - rows)  # the upper half of the rows are the negative frequencies
    columns = tf.range(width // 2 + 1)
    return (rows <= reach[0])[:, None] & (columns <= reach[1])[None, :]


Style = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""`(images, styles) -> images`, all `[batch, h, w, 3]` float32 in [0, 255]."""


class Restyled(AdaptationStep):
    """Classification of source images in the style of the target images of the same step.

    Both streams have an order of their own, so that the source image in place k of its batch meets another target image in
    each epoch: that in place k of the target's batch, counted round where that batch is smaller.

    Args:
        style: gives the first images the style of the second.
        share: probability, 0 to 1, that a source image is restyled; the others stay as they are.
        beside: the images as they are are learnt, too, in a pass of their own; both count the same.
        given: as in `AdaptationStep`.
    """

    changes = "source"

    def __init__(self, style: Style, *, share: float, beside: bool, **given: Any) -> None:
        super().__init__(**given)
        self._style, self._share, self._beside = style, share, beside

    def losses(
        self, model: keras.Model, batches: Mapping[str, Batch], progress: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Return `loss` and `accuracy` of the restyled images; with `beside`, the mean with those of the plain ones."""
        images, labels, indices = batches["source"]
        restyled, told = self.changed(batches, progress), []
        for pictures in (restyled, images) if self._beside else (restyled,):
            _, logits = features_and_logits(model, pictures, training=True)
            told.append(self.classified((pictures, labels, indices), logits, progress))
        return {name: tf.add_n([one[name] for one in told]) / len(told) for name in told[0]}

    def changed(self, batches: Mapping[str, Batch], progress: tf.Tensor) -> tf.Tensor:
        """Return the source's images as they are learnt: `[batch, h, w, 3]` float32 in [0, 255]."""
        images, _, _ = batches["source"]
        styles = paired(batches["target"][0], tf.shape(images)[0])
        return self._by_chance(self._style(images, styles), batches["source"], progress)

    def _by_chance(self, restyled: tf.Tensor, source: Batch, progress: tf.Tensor) -> tf.Tensor:
        if self._share >= 1:
            return restyled
        images, _, indices = source
        drawn = StatelessGenerator(step_seeds(self.seed, progress, indices), 0).uniform([None])
        return tf.where((drawn < self._share)[:, None, None, None], restyled, images)


def paired(targets: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Return the rows of `targets` in their order, begun again until there are `count`."""
    return tf.gather(targets, tf.range(count) % tf.shape(targets)[0])

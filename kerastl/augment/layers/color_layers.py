"""Corrected color and level layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf
from keras_cv import layers

from kerastl.augment.color import apply_matrices, from_hsv, to_hsv
from kerastl.augment.geometry import VECTOR_SIZE, batch_invariant
from kerastl.augment.layers.base import BlendedLayer, OperationLayer, Samples
from kerastl.augment.operation import LARGEST_PIXEL

MIN_RANGE = 1e-3
"""Pixel levels. Steps of 16-bit images are 0.0039 levels; float32 rounds to 0.00002 near 255."""


class AutoContrast(BlendedLayer):
    """Map the minimum of each channel linearly to 0 and its maximum to 255.

    A channel with a range below 0.001 levels is constant and unchanged.
    """

    def changed(self, images: tf.Tensor) -> tf.Tensor:
        """Return the stretched images."""
        minimum = tf.reduce_min(images, axis=(1, 2), keepdims=True)
        value_range = tf.reduce_max(images, axis=(1, 2), keepdims=True) - minimum
        constant = value_range < MIN_RANGE
        stretched = (images - minimum) / tf.where(constant, 1.0, value_range) * 255.0
        return tf.where(constant, images, stretched)


LEVELS = 256


class Equalization(BlendedLayer):
    """Equalize the histogram of each channel.

    On integer levels this is Pillow's table. Between two levels the table is interpolated linearly, which
    keeps the fine steps of images with more than 8 bits; their histogram uses rounded levels.
    """

    def changed(self, images: tf.Tensor) -> tf.Tensor:
        """Return the equalized images; a channel that Pillow leaves unchanged keeps its bytes."""
        pixels = tf.clip_by_value(images, 0.0, LEVELS - 1.0)
        size = tf.shape(images)
        planes = size[0] * size[3]
        # The channels of all images share one histogram and one table with 256 entries each.
        first = LEVELS * tf.reshape(tf.range(planes), [size[0], 1, 1, size[3]])
        bins = first + tf.cast(tf.round(pixels), tf.int32)
        counts = tf.math.unsorted_segment_sum(tf.ones_like(bins), bins, LEVELS * planes)
        table = tf.reshape(_tables(tf.reshape(counts, [planes, LEVELS])), [-1])
        below = tf.floor(pixels)
        level = tf.cast(below, tf.int32)
        lower = tf.gather(table, first + level)
        upper = tf.gather(table, first + tf.minimum(level + 1, LEVELS - 1))
        return lower + (pixels - below) * (upper - lower)


def _tables(histograms: tf.Tensor) -> tf.Tensor:
    """Return the equalization table of each histogram.

    As in Pillow: step = (pixels - pixels of the brightest level) // 255, new level = (darker pixels + step //
    2) // step. Where step is 0 (one level, or too few pixels), levels are unchanged.

    Args:
        histograms: `[histograms, 256]` int32.

    Returns:
        `[histograms, 256]` float32, integers in [0, 255].
    """
    cumulative = tf.cumsum(histograms, axis=-1)
    pixels = cumulative[:, -1:]
    # Number of pixels darker than the brightest level: the largest cumulative count below the total.
    darker = tf.reduce_max(tf.where(cumulative < pixels, cumulative, 0), axis=-1, keepdims=True)
    step = darker // (LEVELS - 1)
    divisor = tf.maximum(step, 1)
    equalized = (cumulative - histograms + divisor // 2) // divisor
    table = tf.where(step > 0, tf.minimum(equalized, LEVELS - 1), tf.range(LEVELS))
    return tf.cast(table, tf.float32)


RED, BLUE = 0.299, 0.114
"""Weights of red and blue in the luma; green has 0.587 (ITU-R BT.601, section 2.5.1)."""


def luma(images: tf.Tensor) -> tf.Tensor:
    """Return the luma (ITU-R BT.601) of images `[batch, height, width, 3]` as `[batch, height, width, 1]`."""
    red, green, blue = tf.split(images, 3, axis=-1)
    # Differences from green, so that gray levels are exact.
    return green + (RED * (red - green) + BLUE * (blue - green))


class Grayscale(layers.Grayscale):
    """`keras_cv.layers.Grayscale` with three equal output channels and weights that sum to 1."""

    def augment_images(self, images: tf.Tensor, transformations: Any = None, **_: Any) -> tf.Tensor:  # noqa: ARG002
        """Return the gray images."""
        return tf.repeat(luma(images), 3, axis=-1)


class RandomColorDegeneration(layers.RandomColorDegeneration):
    """`keras_cv.layers.RandomColorDegeneration` with a gray image of the same luma."""

    def augment_images(self, images: tf.Tensor, transformations: tf.Tensor, **_: Any) -> tf.Tensor:
        """Blend the images with gray by the weights `transformations`, `[batch, 1, 1, 1]`, 0 to 1."""
        return images + transformations * (luma(images) - images)


LUMA = (RED, 1.0 - RED - BLUE, BLUE)
GRAY = np.full((3, 3), 1 / 3, np.float32)
ACROSS = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], np.float32) / math.sqrt(3)


def hue(turns: tf.Tensor) -> tf.Tensor:
    """Return the matrices that rotate colors about the gray axis, `[batch, 3, 3]` float32.

    Args:
        turns: `[batch]` float32, in turns.

    Reference:
        Rodrigues' rotation formula for the axis (1, 1, 1) / sqrt(3).
    """
    angles = turns * (2 * math.pi)
    cosine, sine = (batch_invariant(function, angles)[:, None, None] for function in (tf.cos, tf.sin))
    return GRAY + cosine * (np.eye(3, dtype=np.float32) - GRAY) + sine * ACROSS


def saturation(factors: tf.Tensor) -> tf.Tensor:
    """Return the matrices that scale the distance of each color from its luma, `[batch, 3, 3]` float32.

    Args:
        factors: `[batch]` float32, 0 or larger.
    """
    factors = factors[:, None, None]
    luma = np.tile(np.array(LUMA, np.float32), (3, 1))
    return factors * np.eye(3, dtype=np.float32) + (1.0 - factors) * luma


class LinearHue(layers.RandomHue):
    """`keras_cv.layers.RandomHue` with one matrix per image instead of HSV.

    The hue rotates about the gray axis: grays and the mean of the channels are unchanged, where HSV keeps the
    largest channel.
    """

    def get_random_transformation_batch(self, batch_size: Any, **kwargs: Any) -> tf.Tensor:
        """Return the matrices, `[batch, 3, 3]` float32, which are computed outside XLA."""
        return hue(super().get_random_transformation_batch(batch_size, **kwargs))

    def augment_images(self, images: tf.Tensor, transformations: tf.Tensor, **_: Any) -> tf.Tensor:
        """Return the changed images, clipped to [0, 255]."""
        return apply_matrices(images, transformations)


class LinearSaturation(layers.RandomSaturation):
    """`keras_cv.layers.RandomSaturation` with one matrix per image instead of HSV; luma is unchanged."""

    def get_random_transformation_batch(self, batch_size: Any, **kwargs: Any) -> tf.Tensor:
        """Return the matrices, `[batch, 3, 3]` float32."""
        samples = super().get_random_transformation_batch(batch_size, **kwargs)
        return saturation(samples / (1.0 - samples))

    def augment_images(self, images: tf.Tensor, transformations: tf.Tensor, **_: Any) -> tf.Tensor:
        """Return the changed images, clipped to [0, 255]."""
        return apply_matrices(images, transformations)


PIXEL_BITS = 8
STEPS = tuple(2.0 ** (PIXEL_BITS - bits) for bits in range(PIXEL_BITS + 1))
"""Distance between levels by number of bits. A table, because computed powers are rounded differently per batch."""


class Posterization(OperationLayer):
    """Round all levels down to a multiple of a power of two."""

    def get_random_transformation_batch(self, batch_size: Any, **_: Any) -> Samples:
        """Return `steps`, `[batch, 1, 1, 1]` float32: the distance between levels, 2 to 128."""
        sampled = self._random_generator.uniform([batch_size, 1, 1, 1], self.options.min_bits, PIXEL_BITS)
        # The sum may be rounded up to 8.
        bits = tf.minimum(tf.cast(sampled, tf.int32), PIXEL_BITS - 1)
        return {"steps": tf.gather(tf.constant(STEPS, tf.float32), bits)}

    def augment_images(self, images: tf.Tensor, transformations: Samples, **_: Any) -> tf.Tensor:
        """Return the images with fewer levels."""
        steps = transformations["steps"]
        # Exact, because the steps are powers of two.
        return tf.floor(images / steps) * steps


class RandomChannelShift(OperationLayer):
    """Add a random number to each channel of each image."""

    def get_random_transformation_batch(self, batch_size: Any, images: tf.Tensor, **_: Any) -> Samples:
        """Return `shifts`, `[batch, 1, 1, channels]` float32, in pixel levels."""
        largest = self.options.max_fraction * LARGEST_PIXEL
        shape = [batch_size, 1, 1, images.shape[-1]]
        return {"shifts": self._random_generator.uniform(shape, -largest, largest)}

    def augment_images(self, images: tf.Tensor, transformations: Samples, **_: Any) -> tf.Tensor:
        """Return the shifted images, clipped to [0, 255]."""
        return tf.clip_by_value(images + transformations["shifts"], 0.0, LARGEST_PIXEL)


STEPS_PER_LEVEL = 2048
"""Integer sums do not depend on their order. A row of 4,096 pixels of 255 fits int32."""


def channel_means(images: tf.Tensor) -> tf.Tensor:
    """Return the mean of each channel of each image, independent of the batch.

    A float sum depends on its order, which a compiler chooses by the batch size. Pixels are therefore counted
    in steps of 1 / 2048 levels, an error of at most 0.00025 levels.

    Args:
        images: `[batch, height, width, channels]` float32 in [0, 255], at most 4,096 pixels wide.

    Returns:
        `[batch, 1, 1, channels]` float32.
    """
    height, width = images.shape[1:3]
    steps = tf.cast(images * STEPS_PER_LEVEL + 0.5, tf.int32)
    rows = tf.cast(tf.reduce_sum(steps, axis=2, keepdims=True), tf.int64)
    sums = tf.cast(tf.reduce_sum(rows, axis=1, keepdims=True), tf.float32)
    return sums * (1.0 / (STEPS_PER_LEVEL * height * width))


class RandomContrast(layers.RandomContrast):
    """`keras_cv.layers.RandomContrast` with channel means that do not depend on the batch."""

    def augment_images(self, images: tf.Tensor, transformations: tf.Tensor, **_: Any) -> tf.Tensor:
        """Return the changed images, clipped to [0, 255]."""
        means = channel_means(images)
        return tf.clip_by_value((images - means) * transformations + means, *self.value_range)


SEXTANT_DEG = 60.0


class RandomColorJitter(OperationLayer):
    """Change brightness, then contrast, then saturation and hue."""

    def get_random_transformation_batch(self, batch_size: Any, **_: Any) -> Samples:
        """Return float32 parameters of each image.

        `shifts` (pixel levels) and `contrasts` (factors) are `[batch, 1, 1, 1]`; `saturations` (factors) and
        `sextants` (hue shift in units of 60 degrees) are `[batch]`.
        """

        def around(center: float, largest: float, *rest: int) -> tf.Tensor:
            shape = [batch_size, *rest]
            return self._random_generator.uniform(shape, center - largest, center + largest)

        # In the unit of application: XLA would merge a conversion with other constants differently for each batch size.
        return {
            "shifts": around(0.0, self.options.max_brightness_fraction * LARGEST_PIXEL, 1, 1, 1),
            "contrasts": around(1.0, self.options.max_contrast_fraction, 1, 1, 1),
            "saturations": around(1.0, self.options.max_saturation_fraction),
            "sextants": around(0.0, self.options.max_hue_deg / SEXTANT_DEG),
        }

    @property
    def in_halves(self) -> bool:
        """Whether the conversion to HSV and back should be compiled as two functions."""
        return bool(self.options.max_saturation_fraction or self.options.max_hue_deg)

    def augment_images(self, images: tf.Tensor, transformations: Samples, **_: Any) -> tf.Tensor:
        """Return the changed images, clipped to [0, 255] after each step."""
        if self.in_halves:
            return from_hsv(*self.to_planes(images, transformations))
        return self._without_hsv(images, transformations)

    def to_planes(self, images: tf.Tensor, transformations: Samples) -> tuple[tf.Tensor, ...]:
        """Return value, chroma and hue of the changed images, the arguments of `from_hsv`."""
        images = self._without_hsv(images, transformations)
        return to_hsv(images, transformations["saturations"], transformations["sextants"])

    def _without_hsv(self, images: tf.Tensor, transformations: Samples) -> tf.Tensor:
        if self.options.max_brightness_fraction:
            images = tf.clip_by_value(images + transformations["shifts"], 0.0, LARGEST_PIXEL)
        if self.options.max_contrast_fraction:
            means = channel_means(images)
            images = means + (images - means) * transformations["contrasts"]
            images = tf.clip_by_value(images, 0.0, LARGEST_PIXEL)
        return images


KERNEL_SIGMAS = 3.0
"""At this radius the Gaussian is 1% of its maximum; 0.3% of its area is outside."""
MIN_SIGMA_PX = 0.05
"""A narrower Gaussian has no float32 weight outside its center."""


class RandomGaussianBlur(OperationLayer):
    """Blur each image; borders are reflected about the center of the outermost pixel."""

    def get_random_transformation_batch(self, batch_size: Any, **_: Any) -> Samples:
        """Return `weights`, `[batch, radius + 1]` float32, half of each kernel from its center outward."""
        sigmas = self._random_generator.uniform([batch_size], 0.0, self.options.max_sigma_px)
        radius_px = math.ceil(KERNEL_SIGMAS * self.options.max_sigma_px)
        return {"weights": kernel_halves(sigmas, radius_px)}

    def augment_images(self, images: tf.Tensor, transformations: Samples, **_: Any) -> tf.Tensor:
        """Return the blurred images."""
        weights = transformations["weights"]
        return _blurred(_blurred(images, weights, axis=1), weights, axis=2)


def kernel_halves(sigmas_px: tf.Tensor, radius_px: int) -> tf.Tensor:
    """Return half of a normalized Gaussian kernel for each standard deviation.

    Args:
        sigmas_px: `[batch]` float32, in pixels, 0 or larger.
        radius_px: Number of pixels from the center to the last weight.

    Returns:
        `[batch, radius_px + 1]` float32, from the center outward.
    """
    # TensorFlow rounds exponentials of full vectors and of the remainder differently; here all rows are full vectors.
    fill_masked = math.ceil((radius_px + 1) / VECTOR_SIZE) * VECTOR_SIZE
    squares = tf.constant(np.arange(fill_masked) ** 2, tf.float32)
    sigmas_px = tf.maximum(sigmas_px, MIN_SIGMA_PX)
    heights = tf.exp(-squares / (2.0 * sigmas_px * sigmas_px)[:, None])[:, : radius_px + 1]
    center, *outer = tf.unstack(heights, axis=1)
    return heights / (center + 2.0 * tf.add_n(outer))[:, None]


def _blurred(images: tf.Tensor, weights: tf.Tensor, axis: int) -> tf.Tensor:
    """Blur along the rows (axis 1) or columns (axis 2) of `[batch, height, width, channels]` images."""
    size, radius = images.shape[axis], weights.shape[1] - 1
    if size == 1:
        return images
    mirrored = _mirrored(images, radius, axis)

    def shift(pixels: int) -> tf.Tensor:
        """Return the images shifted by some pixels."""
        return _cut(mirrored, radius + pixels, radius + pixels + size, axis)

    weights = weights[:, :, None, None, None]
    # Differences from the center, so that a constant image is unchanged.
    result = images
    for pixels in range(1, radius + 1):
        result += weights[:, pixels] * ((shift(pixels) - images) + (shift(-pixels) - images))
    return result


def _cut(images: tf.Tensor, start: int, stop: int, axis: int) -> tf.Tensor:
    """Return the rows (axis 1) or columns (axis 2) from `start` to `stop`."""
    return images[:, start:stop] if axis == 1 else images[:, :, start:stop]


def _mirrored(images: tf.Tensor, radius: int, axis: int) -> tf.Tensor:
    """Pad both ends of an axis of at least two pixels by reflection."""
    # Repeated reflection equals two facing mirrors. Gathering by index is eight times slower in XLA, and `tf.pad` refuses
    # an empty batch.
    while radius > 0:
        pixels = min(radius, images.shape[axis] - 1)
        ends = _cut(images, 1, pixels + 1, axis), _cut(images, -pixels - 1, -1, axis)
        first, last = (tf.reverse(end, [axis]) for end in ends)
        images = tf.concat([first, images, last], axis=axis)
        radius -= pixels
    return images


MAX_QUALITY = 100
"""Quality at which an image is unchanged; JPEG itself is lossy even there."""


class RandomJpegQuality(OperationLayer):
    """Encode each image as JPEG and decode it again."""

    def get_random_transformation_batch(self, batch_size: Any, **_: Any) -> Samples:
        """Return `qualities`, `[batch]` int32."""
        sampled = self._random_generator.uniform([batch_size], self.options.min_quality, MAX_QUALITY + 1)
        # The sum may be rounded up to 101.
        return {"qualities": tf.minimum(tf.cast(sampled, tf.int32), MAX_QUALITY)}

    def augment_images(self, images: tf.Tensor, transformations: Samples, **_: Any) -> tf.Tensor:
        """Return the decoded images with integer levels; images of quality 100 are unchanged."""
        return tf.map_fn(
            lambda row: tf.cond(row[1] == MAX_QUALITY, lambda: row[0], lambda: _through_jpeg(*row)),
            (images, transformations["qualities"]),
            fn_output_signature=tf.TensorSpec(images.shape[1:], tf.float32),
        )


def _through_jpeg(image: tf.Tensor, quality: tf.Tensor) -> tf.Tensor:
    """Encode and decode one `[height, width, 1 or 3]` float32 image in [0, 255] with chroma subsampling."""
    levels = tf.cast(tf.round(tf.clip_by_value(image, 0.0, 255.0)), tf.uint8)
    encoded = tf.raw_ops.EncodeJpegVariableQuality(images=levels, quality=quality)
    # The accurate method uses integers: the bytes are the same on every machine.
    decoded = tf.io.decode_jpeg(encoded, channels=image.shape[-1], dct_method="INTEGER_ACCURATE")
    return tf.ensure_shape(tf.cast(decoded, tf.float32), image.shape)


SIGNS = {"both": (-1.0, 1.0), "sharper": (0.0, 1.0), "softer": (-1.0, 0.0)}
"""Bounds of the difference as multiples of max_fraction."""
KERNEL_SUM = 13.0
"""Sum of the smoothing kernel 1 1 1, 1 5 1, 1 1 1 (Pillow's `ImageFilter.SMOOTH`)."""


class RandomSharpness(OperationLayer):
    """Add or subtract the detail that smoothing removes."""

    def get_random_transformation_batch(self, batch_size: Any, **_: Any) -> Samples:
        """Return `differences`, `[batch, 1, 1, 1]` float32: above 0 sharpens, below 0 softens."""
        low, high = (sign * self.options.max_fraction for sign in SIGNS[self.options.direction])
        return {"differences": self._random_generator.uniform([batch_size, 1, 1, 1], low, high)}

    def augment_images(self, images: tf.Tensor, transformations: Samples, **_: Any) -> tf.Tensor:
        """Return the images, clipped to [0, 255]; the outermost pixels are unchanged."""
        changed = images + transformations["differences"] * _detail(images)
        return tf.clip_by_value(changed, 0.0, 255.0)


def _detail(images: tf.Tensor) -> tf.Tensor:
    """Return the images minus their smoothed copies; 0 in the outermost pixels and in constant images.

    The sum of the 3 x 3 pixels is (3 + rows)(3 + columns) applied to an image, with `rows` and `columns` its
    second differences. The image minus its smoothed copy is therefore -(3 columns + rows (3 + columns)) / 13,
    which takes three additions per pixel and axis and, unlike a depthwise convolution, is fast in XLA.
    """
    if min(images.shape[1:3]) < 3:
        return tf.zeros_like(images)
    inner = images[:, :, 1:-1]
    columns = (images[:, :, :-2] - inner) + (images[:, :, 2:] - inner)
    both = 3.0 * inner + columns
    center = both[:, 1:-1]
    rows = (both[:, :-2] - center) + (both[:, 2:] - center)
    detail = (3.0 * columns[:, 1:-1] + rows) / -KERNEL_SUM
    return tf.pad(detail, [[0, 0], [1, 1], [1, 1], [0, 0]])

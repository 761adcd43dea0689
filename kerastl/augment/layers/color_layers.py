"""Hue and saturation as one matrix an image: quicker than by way of HSV, and another augmentation.

The hue turns about the gray axis, so that grays and the mean of the three channels stay; saturation moves every pixel
towards or away from its luma. HSV keeps the largest channel instead: the two differ most for strong colors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from keras_cv import layers
from keras_cv.layers import VectorizedBaseImageAugmentationLayer

from kerastl.augment.color import apply_matrices, from_hsv, to_hsv
from kerastl.augment.geometry import WIDEST_VECTOR, batch_invariant
from kerastl.augment.layers.base import BlendedLayer
from kerastl.augment.operation import LARGEST_PIXEL

SMALLEST_SPREAD = 1e-3
"""Pixel levels. A step of a 16-bit image is 255 / 65535 = 0.0039 levels; float32 rounds to 0.00002 near 255."""


class AutoContrast(BlendedLayer):
    """Map the darkest value of each channel to 0, the brightest to 255, those between them linearly.

    A channel whose values differ by less than 0.001 levels is constant and stays as it is.
    """

    def changed(self, images: tf.Tensor) -> tf.Tensor:
        """Return the stretched images, the shape kept."""
        darkest = tf.reduce_min(images, axis=(1, 2), keepdims=True)
        spread = tf.reduce_max(images, axis=(1, 2), keepdims=True) - darkest
        constant = spread < SMALLEST_SPREAD
        stretched = (images - darkest) / tf.where(constant, 1.0, spread) * 255.0
        return tf.where(constant, images, stretched)


LEVELS = 256


class Equalization(BlendedLayer):
    """Spread the levels of each channel so that about equally many pixels have each.

    On whole levels this is Pillow's table. Between two levels the table is read by linear interpolation, so that
    images of more than 8 bits keep their fine steps; their histogram is taken on rounded levels.
    """

    def changed(self, images: tf.Tensor) -> tf.Tensor:
        """Return the equalized images; a channel that Pillow leaves alone stays as it is, byte for byte."""
        pixels = tf.clip_by_value(images, 0.0, LEVELS - 1.0)
        size = tf.shape(images)
        planes = size[0] * size[3]
        # The channels of all images share one long histogram and one long table, 256 places each.
        first = LEVELS * tf.reshape(tf.range(planes), [size[0], 1, 1, size[3]])
        place = first + tf.cast(tf.round(pixels), tf.int32)
        counts = tf.math.unsorted_segment_sum(tf.ones_like(place), place, LEVELS * planes)
        table = tf.reshape(_tables(tf.reshape(counts, [planes, LEVELS])), [-1])
        below = tf.floor(pixels)
        level = tf.cast(below, tf.int32)
        lower = tf.gather(table, first + level)
        upper = tf.gather(table, first + tf.minimum(level + 1, LEVELS - 1))
        return lower + (pixels - below) * (upper - lower)


def _tables(histograms: tf.Tensor) -> tf.Tensor:
    """Return the new level of each level.

    Pillow's: step = (pixels - pixels of the brightest level) // 255, new level = (pixels darker than
    this level + step // 2) // step. Where step is 0 (one level, or too few pixels) each level stays.

    Args:
        histograms: `[channels of all images, 256]` int32, pixels of each level.

    Returns:
        `[channels of all images, 256]` float32, whole numbers in [0, 255].
    """
    up_to = tf.cumsum(histograms, axis=-1)
    pixels = up_to[:, -1:]
    # Pixels darker than the brightest level that any pixel has: the largest count below the total.
    darker = tf.reduce_max(tf.where(up_to < pixels, up_to, 0), axis=-1, keepdims=True)
    step = darker // (LEVELS - 1)
    divisor = tf.maximum(step, 1)
    spread_out = (up_to - histograms + divisor // 2) // divisor
    table = tf.where(step > 0, tf.minimum(spread_out, LEVELS - 1), tf.range(LEVELS))
    return tf.cast(table, tf.float32)


RED, BLUE = 0.299, 0.114
"""Shares of red and blue in the brightness of a pixel; green has the rest, 0.587 (ITU-R BT.601, section 2.5.1)."""


def luma(images: tf.Tensor) -> tf.Tensor:
    """Return how bright each pixel is.

    Args:
        images: `[batch, height, width, 3]` float32.

    Returns:
        `[batch, height, width, 1]` float32, in the images' unit.
    """
    red, green, blue = tf.split(images, 3, axis=-1)
    # Differences from green: zero for gray, whose level is then the same to the last digit.
    return green + (RED * (red - green) + BLUE * (blue - green))


class Grayscale(layers.Grayscale):
    """`keras_cv.layers.Grayscale` with three equal channels out."""

    def augment_images(self, images: tf.Tensor, transformations: Any = None, **_: Any) -> tf.Tensor:  # noqa: ARG002
        """Return the gray images, the shape kept."""
        return tf.repeat(luma(images), 3, axis=-1)


class RandomColorDegeneration(layers.RandomColorDegeneration):
    """`keras_cv.layers.RandomColorDegeneration`, mixing with a gray image of the same brightness."""

    def augment_images(self, images: tf.Tensor, transformations: tf.Tensor, **_: Any) -> tf.Tensor:
        """Return the paler images, the shape kept.

        Args:
            images: `[batch, height, width, 3]` float32 in [0, 255].
            transformations: `[batch, 1, 1, 1]` float32, the share of gray, 0 to 1.
        """
        return images + transformations * (luma(images) - images)


LUMA = (RED, 1.0 - RED - BLUE, BLUE)
GRAY = np.full((3, 3), 1 / 3, np.float32)
ACROSS = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], np.float32) / math.sqrt(3)


def hue(turns: tf.Tensor) -> tf.Tensor:
    """Return matrices that turn colors about the gray axis: `[batch, 3, 3]` float32.

    Args:
        turns: `[batch]` float32, in turns.

    Reference:
        Rodrigues' rotation formula for the axis (1, 1, 1) / sqrt(3).
    """
    angles = turns * (2 * math.pi)
    cosine, sine = (batch_invariant(function, angles)[:, None, None] for function in (tf.cos, tf.sin))
    return GRAY + cosine * (np.eye(3, dtype=np.float32) - GRAY) + sine * ACROSS


def saturation(factors: tf.Tensor) -> tf.Tensor:
    """Return matrices that multiply each color's distance from its luma: `[batch, 3, 3]` float32.

    Args:
        factors: `[batch]` float32, at least 0.
    """
    factors = factors[:, None, None]
    luma = np.tile(np.array(LUMA, np.float32), (3, 1))
    return factors * np.eye(3, dtype=np.float32) + (1.0 - factors) * luma


class LinearHue(layers.RandomHue):
    """`keras_cv.layers.RandomHue` with a matrix in place of HSV."""

    def get_random_transformation_batch(self, batch_size: Any, **kwargs: Any) -> tf.Tensor:
        """Return the matrices: `[batch, 3, 3]` float32. They are made outside of what XLA compiles."""
        return hue(super().get_random_transformation_batch(batch_size, **kwargs))

    def augment_images(self, images: tf.Tensor, transformations: tf.Tensor, **_: Any) -> tf.Tensor:
        """Return the changed images, clipped to [0, 255]."""
        return apply_matrices(images, transformations)


class LinearSaturation(layers.RandomSaturation):
    """`keras_cv.layers.RandomSaturation` with a matrix in place of HSV."""

    def get_random_transformation_batch(self, batch_size: Any, **kwargs: Any) -> tf.Tensor:
        """Return the matrices: `[batch, 3, 3]` float32."""
        shares = super().get_random_transformation_batch(batch_size, **kwargs)
        return saturation(shares / (1.0 - shares))

    def augment_images(self, images: tf.Tensor, transformations: tf.Tensor, **_: Any) -> tf.Tensor:
        """Return the changed images, clipped to [0, 255]."""
        return apply_matrices(images, transformations)


PIXEL_BITS = 8
STEPS = tuple(2.0 ** (PIXEL_BITS - bits) for bits in range(PIXEL_BITS + 1))
"""Pixel levels between neighbors when so many bits are left. A table: powers computed on the spot may differ in the
last digit between batches."""


class Posterization(VectorizedBaseImageAugmentationLayer):
    """Round every level down to a multiple of 2, 4, 8 ... 128.

    Args:
        min_bits: fewest bits that are left, 1 to 7; a whole number from there to 7 is drawn, each equally often.
        kwargs: `dtype` and `seed`, for keras-cv.
    """

    def __init__(self, min_bits: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # Above 7 the operation is the identity and no layer is asked; 7.5 means 7 then.
        self.min_bits = min(math.ceil(min_bits), PIXEL_BITS - 1)

    def get_random_transformation_batch(
        self,
        batch_size: Any,
        images: Any = None,  # noqa: ARG002 - keras-cv passes it
        **_: Any,
    ) -> dict[str, tf.Tensor]:
        """Return `steps`: `[batch, 1, 1, 1]` float32, the levels between neighbors: 2 to 128, a power of 2."""
        params = self._random_generator.uniform([batch_size, 1, 1, 1], self.min_bits, PIXEL_BITS)
        # The sum can be rounded up to 8.
        bits = tf.minimum(tf.cast(params, tf.int32), PIXEL_BITS - 1)
        return {"steps": tf.gather(tf.constant(STEPS, tf.float32), bits)}

    def augment_images(self, images: tf.Tensor, transformations: dict[str, tf.Tensor], **_: Any) -> tf.Tensor:
        """Return the images with fewer levels, the shape kept."""
        steps = transformations["steps"]
        # Exact: a float32 is divided and multiplied by powers of two.
        return tf.floor(images / steps) * steps


class RandomChannelShift(VectorizedBaseImageAugmentationLayer):
    """Add to each channel of each image a number of its own.

    Args:
        max_fraction: largest shift either way, as a fraction of 255; uniform.
        kwargs: `dtype` and `seed`, for keras-cv.
    """

    def __init__(self, max_fraction: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max_fraction = max_fraction

    def get_random_transformation_batch(
        self, batch_size: Any, images: tf.Tensor, **_: Any
    ) -> dict[str, tf.Tensor]:
        """Return `shifts`: `[batch, 1, 1, channels]` float32, in pixel levels."""
        largest = self.max_fraction * LARGEST_PIXEL
        shape = [batch_size, 1, 1, images.shape[-1]]
        return {"shifts": self._random_generator.uniform(shape, -largest, largest)}

    def augment_images(self, images: tf.Tensor, transformations: dict[str, tf.Tensor], **_: Any) -> tf.Tensor:
        """Return the shifted images, clipped to [0, 255], the shape kept."""
        return tf.clip_by_value(images + transformations["shifts"], 0.0, LARGEST_PIXEL)


STEPS_PER_LEVEL = 2048
"""Sums of whole numbers do not depend on their order. A row of 4,096 pixels of 255 still fits int32."""


def channel_means(images: tf.Tensor) -> tf.Tensor:
    """Return the mean of each channel of each image.

    A sum of floats depends on its order, and a compiler chooses the order by the size of the batch. Here pixels are
    counted in steps of 1 / 2048 of a level: the mean is off by at most a quarter of a thousandth of a level.

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
    """`keras_cv.layers.RandomContrast` with means that do not depend on the batch."""

    def augment_images(self, images: tf.Tensor, transformations: tf.Tensor, **_: Any) -> tf.Tensor:
        """Return the changed images, clipped to [0, 255]."""
        means = channel_means(images)
        return tf.clip_by_value((images - means) * transformations + means, *self.value_range)


SEXTANT_DEG = 60.0


@dataclass(frozen=True)
class Jitter:
    """Largest changes of `RandomColorJitter`; each is uniform both ways.

    Args:
        brightness: added to every pixel, as a fraction of 255.
        contrast: 0.2 multiplies the distance from a channel's mean by 0.8 to 1.2.
        saturation: 0.2 multiplies the saturation by 0.8 to 1.2.
        hue_deg: turn of the circle of colors, in degrees.
    """

    brightness: float
    contrast: float
    saturation: float
    hue_deg: float


class RandomColorJitter(VectorizedBaseImageAugmentationLayer):
    """Change brightness, then contrast, then saturation and hue.

    Args:
        jitter: largest changes.
        kwargs: `dtype` and `seed`, for keras-cv.
    """

    def __init__(self, jitter: Jitter, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.jitter = jitter

    def get_random_transformation_batch(
        self,
        batch_size: Any,
        images: Any = None,  # noqa: ARG002 - keras-cv passes it
        **_: Any,
    ) -> dict[str, tf.Tensor]:
        """Return four numbers for each image, float32.

        `shifts` in pixel levels and `contrasts`, factors from 0, `[batch, 1, 1, 1]`; `saturations`, factors from 0,
        and `sextants`, sixths of the circle of colors, `[batch]`.
        """

        def about(middle: float, largest: float, *rest: int) -> tf.Tensor:
            shape = [batch_size, *rest]
            return self._random_generator.uniform(shape, middle - largest, middle + largest)

        # In the unit in which they are applied: XLA would join a conversion with other constants, in another way for
        # one image than for many.
        return {
            "shifts": about(0.0, self.jitter.brightness * LARGEST_PIXEL, 1, 1, 1),
            "contrasts": about(1.0, self.jitter.contrast, 1, 1, 1),
            "saturations": about(1.0, self.jitter.saturation),
            "sextants": about(0.0, self.jitter.hue_deg / SEXTANT_DEG),
        }

    @property
    def in_halves(self) -> bool:
        """Whether the way to HSV and the way back are better compiled apart."""
        return bool(self.jitter.saturation or self.jitter.hue_deg)

    def augment_images(self, images: tf.Tensor, transformations: dict[str, tf.Tensor], **_: Any) -> tf.Tensor:
        """Return the changed images, clipped to [0, 255] after each step, the shape kept."""
        if self.in_halves:
            return from_hsv(*self.to_planes(images, transformations))
        return self._without_hsv(images, transformations)

    def to_planes(self, images: tf.Tensor, transformations: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        """Return value, chroma and hue of the changed images; `from_hsv` makes images of them."""
        images = self._without_hsv(images, transformations)
        return to_hsv(images, transformations["saturations"], transformations["sextants"])

    def _without_hsv(self, images: tf.Tensor, transformations: dict[str, tf.Tensor]) -> tf.Tensor:
        if self.jitter.brightness:
            images = tf.clip_by_value(images + transformations["shifts"], 0.0, LARGEST_PIXEL)
        if self.jitter.contrast:
            means = channel_means(images)
            images = means + (images - means) * transformations["contrasts"]
            images = tf.clip_by_value(images, 0.0, LARGEST_PIXEL)
        return images


KERNEL_SIGMAS = 3.0
"""The kernel ends where the Gaussian has fallen to 1 % of its middle; 0.3 % of its area lie beyond."""
NARROWEST_PX = 0.05
"""A narrower Gaussian has no weight that a float32 holds outside of its middle."""


class RandomGaussianBlur(VectorizedBaseImageAugmentationLayer):
    """Blur each image, mirrored at its borders (about the middle of the outermost pixel).

    Args:
        max_sigma_px: largest standard deviation of the Gaussian, in pixels, above 0; each image's is uniform in
            [0, max_sigma_px).
        kwargs: `dtype` and `seed`, for keras-cv.
    """

    def __init__(self, max_sigma_px: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max_sigma_px = max_sigma_px
        self.radius_px = math.ceil(KERNEL_SIGMAS * max_sigma_px)

    def get_random_transformation_batch(
        self,
        batch_size: Any,
        images: Any = None,  # noqa: ARG002 - keras-cv passes it
        **_: Any,
    ) -> dict[str, tf.Tensor]:
        """Return `weights`: `[batch, radius + 1]` float32, half of each kernel, from its middle outwards."""
        sigmas = self._random_generator.uniform([batch_size], 0.0, self.max_sigma_px)
        return {"weights": kernel_halves(sigmas, self.radius_px)}

    def augment_images(self, images: tf.Tensor, transformations: dict[str, tf.Tensor], **_: Any) -> tf.Tensor:
        """Return the blurred images, the shape kept."""
        weights = transformations["weights"]
        return _blurred(_blurred(images, weights, axis=1), weights, axis=2)


def kernel_halves(sigmas_px: tf.Tensor, radius_px: int) -> tf.Tensor:
    """Return half of a Gaussian kernel for each width.

    Args:
        sigmas_px: `[batch]` float32, standard deviations in pixels, 0 or more.
        radius_px: pixels from the middle of the kernel to its last weight.

    Returns:
        `[batch, radius_px + 1]` float32, from the middle outwards; the whole kernels sum to 1.
    """
    # TensorFlow has one formula for whole vectors of exponentials, another for the rest of a batch, which differ in
    # the last digit. Rows of whole vectors all take the first.
    filled = math.ceil((radius_px + 1) / WIDEST_VECTOR) * WIDEST_VECTOR
    squares = tf.constant(np.arange(filled) ** 2, tf.float32)
    sigmas_px = tf.maximum(sigmas_px, NARROWEST_PX)
    heights = tf.exp(-squares / (2.0 * sigmas_px * sigmas_px)[:, None])[:, : radius_px + 1]
    middle, *outer = tf.unstack(heights, axis=1)
    return heights / (middle + 2.0 * tf.add_n(outer))[:, None]


def _blurred(images: tf.Tensor, weights: tf.Tensor, axis: int) -> tf.Tensor:
    """Blur along the rows (axis 1) or columns (axis 2) of `[batch, height, width, channels]` images."""
    size, radius = images.shape[axis], weights.shape[1] - 1
    if size == 1:
        return images
    mirrored = _mirrored(images, radius, axis)

    def moved(pixels: int) -> tf.Tensor:
        """Return the images moved by so many pixels."""
        seen = slice(radius + pixels, radius + pixels + size)
        return mirrored[:, seen] if axis == 1 else mirrored[:, :, seen]

    weights = weights[:, :, None, None, None]
    # Differences from the middle: a constant image stays the same to the last digit.
    result = images
    for pixels in range(1, radius + 1):
        result += weights[:, pixels] * ((moved(pixels) - images) + (moved(-pixels) - images))
    return result


def _mirrored(images: tf.Tensor, radius: int, axis: int) -> tf.Tensor:
    """Return the images with so many more pixels at both ends of an axis, two pixels or longer."""
    # A mirrored image mirrored again is what two mirrors facing each other show. (Gathering the pixels by their
    # places is as short, and eight times slower in XLA; `tf.pad` refuses an empty batch.)
    while radius > 0:
        pixels = min(radius, images.shape[axis] - 1)
        before, after = slice(1, pixels + 1), slice(-pixels - 1, -1)
        ends = (
            (images[:, before], images[:, after])
            if axis == 1
            else (images[:, :, before], images[:, :, after])
        )
        first, last = (tf.reverse(end, [axis]) for end in ends)
        images = tf.concat([first, images, last], axis=axis)
        radius -= pixels
    return images


UNTOUCHED = 100
"""Quality at which an image is left alone. JPEG itself loses something even there."""


class RandomJpegQuality(VectorizedBaseImageAugmentationLayer):
    """Encode each image as JPEG and decode it again.

    Args:
        min_quality: lowest quality, 1 to 100; a whole number from there to 100 is drawn, each equally often.
        kwargs: `dtype` and `seed`, for keras-cv.
    """

    def __init__(self, min_quality: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.min_quality = math.ceil(min_quality)

    def get_random_transformation_batch(
        self,
        batch_size: Any,
        images: Any = None,  # noqa: ARG002 - keras-cv passes it
        **_: Any,
    ) -> dict[str, tf.Tensor]:
        """Return `qualities`: `[batch]` int32, min_quality to 100."""
        params = self._random_generator.uniform([batch_size], self.min_quality, UNTOUCHED + 1)
        # The sum can be rounded up to 101.
        return {"qualities": tf.minimum(tf.cast(params, tf.int32), UNTOUCHED)}

    def augment_images(self, images: tf.Tensor, transformations: dict[str, tf.Tensor], **_: Any) -> tf.Tensor:
        """Return the decoded images, whole levels, the shape kept; those of quality 100 as they were."""
        return tf.map_fn(
            lambda one: tf.cond(one[1] == UNTOUCHED, lambda: one[0], lambda: _through_jpeg(one[0], one[1])),
            (images, transformations["qualities"]),
            fn_output_signature=tf.TensorSpec(images.shape[1:], tf.float32),
        )


def _through_jpeg(image: tf.Tensor, quality: tf.Tensor) -> tf.Tensor:
    """Encode and decode one `[height, width, 1 or 3]` float32 image in [0, 255], colors at half resolution."""
    levels = tf.cast(tf.round(tf.clip_by_value(image, 0.0, 255.0)), tf.uint8)
    encoded = tf.raw_ops.EncodeJpegVariableQuality(images=levels, quality=quality)
    # The accurate transform is one of whole numbers: the same bytes on every machine.
    decoded = tf.io.decode_jpeg(encoded, channels=image.shape[-1], dct_method="INTEGER_ACCURATE")
    return tf.ensure_shape(tf.cast(decoded, tf.float32), image.shape)


SIGNS = {"both": (-1.0, 1.0), "sharper": (0.0, 1.0), "softer": (-1.0, 0.0)}
"""Bounds of the difference, as multiples of the largest one, by direction."""
KERNEL_SUM = 13.0
"""Of the smoothing kernel 1 1 1, 1 5 1, 1 1 1 (Pillow's `ImageFilter.SMOOTH`)."""


class RandomSharpness(VectorizedBaseImageAugmentationLayer):
    """Add or take away what smoothing would remove.

    Args:
        max_fraction: largest difference, 0 to 1: 1 softens down to the smoothed image and sharpens as far the other
            way.
        direction: `both`, `sharper` or `softer`.
        kwargs: `dtype` and `seed`, for keras-cv.
    """

    def __init__(self, max_fraction: float, direction: str = "both", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bounds = tuple(sign * max_fraction for sign in SIGNS[direction])

    def get_random_transformation_batch(
        self,
        batch_size: Any,
        images: Any = None,  # noqa: ARG002 - keras-cv passes it
        **_: Any,
    ) -> dict[str, tf.Tensor]:
        """Return `differences`: `[batch, 1, 1, 1]` float32, above 0 sharper, below 0 softer."""
        shape = [batch_size, 1, 1, 1]
        return {"differences": self._random_generator.uniform(shape, *self.bounds)}

    def augment_images(self, images: tf.Tensor, transformations: dict[str, tf.Tensor], **_: Any) -> tf.Tensor:
        """Return the images, clipped to [0, 255], the shape and the outermost pixels kept."""
        changed = images + transformations["differences"] * _detail(images)
        return tf.clip_by_value(changed, 0.0, 255.0)


def _detail(images: tf.Tensor) -> tf.Tensor:
    """Return images less their smoothed copies, 0 in the outermost pixels; exactly 0 where an image is constant.

    The nine pixels sum to (3 + rows)(3 + columns) applied to an image, where `rows` and `columns` are its second
    differences. So the image less its smoothed copy is -(3 columns + rows (3 + columns)) / 13 applied to it, which
    takes three additions a pixel each way and, unlike a convolution with a kernel for each channel, is fast in XLA.
    """
    if min(images.shape[1:3]) < 3:
        # All pixels are outermost ones.
        return tf.zeros_like(images)
    inner = images[:, :, 1:-1]
    columns = (images[:, :, :-2] - inner) + (images[:, :, 2:] - inner)
    both = 3.0 * inner + columns
    middle = both[:, 1:-1]
    rows = (both[:, :-2] - middle) + (both[:, 2:] - middle)
    detail = (3.0 * columns[:, 1:-1] + rows) / -KERNEL_SUM
    return tf.pad(detail, [[0, 0], [1, 1], [1, 1], [0, 0]])

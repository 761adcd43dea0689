"""Brightness, contrast, saturation and hue in one operation, with one conversion to HSV and back.

keras-cv 0.9.0's RandomColorJitter draws while it changes the pictures, in four layers of its own, where no one can hand
it other random numbers; those layers follow the global policy of types (half floats round pixels) whatever `dtype` it
was given. The formulas are those of its four layers, in its order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from keras_cv.layers import VectorizedBaseImageAugmentationLayer

LARGEST_PIXEL = 255.0
SEXTANT_DEG = 60.0
SMALLEST_SPREAD = 1e-6
"""Pixel levels between the largest and the smallest channel below which a pixel is grey and its hue means nothing."""


@dataclass(frozen=True)
class Jitter:
    """Largest changes of `SteadyColorJitter`; each is uniform both ways.

    Args:
        brightness: added to every pixel, as a fraction of 255.
        contrast: 0.2 multiplies the distance from a channel's mean by 0.8 to 1.2.
        saturation: 0.2 multiplies the saturation by 0.8 to 1.2.
        hue_deg: turn of the circle of colours, in degrees.
    """

    brightness: float
    contrast: float
    saturation: float
    hue_deg: float


class SteadyColorJitter(VectorizedBaseImageAugmentationLayer):
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
        """Return four numbers for each picture, each `[batch, 1, 1, 1]` float32.

        `shifts` in pixel levels, `contrasts` and `saturations` factors from 0, `turns_deg`.
        """

        def about(middle: float, largest: float) -> tf.Tensor:
            shape = [batch_size, 1, 1, 1]
            return self._random_generator.uniform(shape, middle - largest, middle + largest)

        return {
            "shifts": about(0.0, self.jitter.brightness * LARGEST_PIXEL),
            "contrasts": about(1.0, self.jitter.contrast),
            "saturations": about(1.0, self.jitter.saturation),
            "turns_deg": about(0.0, self.jitter.hue_deg),
        }

    def augment_images(
        self, images: tf.Tensor, transformations: dict[str, tf.Tensor], **_: Any
    ) -> tf.Tensor:
        """Return the changed pictures, clipped to [0, 255] after each step, the shape kept."""
        if self.jitter.brightness:
            images = tf.clip_by_value(images + transformations["shifts"], 0.0, LARGEST_PIXEL)
        if self.jitter.contrast:
            means = tf.reduce_mean(images, axis=(1, 2), keepdims=True)
            images = means + (images - means) * transformations["contrasts"]
            images = tf.clip_by_value(images, 0.0, LARGEST_PIXEL)
        if self.jitter.saturation or self.jitter.hue_deg:
            saturations, turns_deg = transformations["saturations"], transformations["turns_deg"]
            images = with_saturation_and_hue(images, saturations, turns_deg)
        return images


def with_saturation_and_hue(
    images: tf.Tensor, saturations: tf.Tensor, turns_deg: tf.Tensor
) -> tf.Tensor:
    """Multiply the saturation and turn the hue of HSV; the value (the largest channel) stays.

    Args:
        images: `[batch, height, width, 3]` float32 in [0, 255].
        saturations: `[batch, 1, 1, 1]` float32, factors of 0 or more; the product is cut at full saturation.
        turns_deg: `[batch, 1, 1, 1]` float32, from red towards green.

    Returns:
        `[batch, height, width, 3]` float32 in [0, 255].

    Reference:
        Smith 1978, "Color gamut transform pairs", SIGGRAPH 1978, the hexcone model.
    """
    value = tf.reduce_max(images, axis=-1, keepdims=True)
    spread = value - tf.reduce_min(images, axis=-1, keepdims=True)
    sextants = _hue_in_sextants(images, spread) + turns_deg / SEXTANT_DEG
    # Spread = saturation * value: a spread cut at the value is a saturation cut at 1.
    new_spread = tf.minimum(spread * saturations, value)
    channels = []
    for peak in (0.0, 2.0, 4.0):
        # 0 to 3: how far the hue is from pure red, green or blue, round the circle.
        distance = sextants - peak
        distance = tf.abs(distance - 6.0 * tf.round(distance / 6.0))
        # The channel holds the whole spread up to distance 1, and none of it from 2 on.
        missing = tf.clip_by_value(distance - 1.0, 0.0, 1.0)
        channels.append(value - new_spread * missing)
    return tf.concat(channels, axis=-1)


def _hue_in_sextants(images: tf.Tensor, spread: tf.Tensor) -> tf.Tensor:
    """Return the hue, `[batch, height, width, 1]`: 0 is red, 2 green, 4 blue, from -1 to 5; of grey any number.

    Asks only which channel is larger, never whether one equals the maximum: a compiler may compute both
    once more, rounded otherwise.
    """
    red, green, blue = tf.split(images, 3, axis=-1)
    reddest = (red >= green) & (red >= blue)
    between = tf.where(reddest, green - blue, tf.where(green >= blue, blue - red, red - green))
    start = tf.where(reddest, 0.0, tf.where(green >= blue, 2.0, 4.0))
    return start + between / tf.maximum(spread, SMALLEST_SPREAD)

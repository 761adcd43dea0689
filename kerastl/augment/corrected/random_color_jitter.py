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

from kerastl.augment.corrected.random_contrast import steady_means
from kerastl.augment.hsv import from_hsv, to_hsv
from kerastl.augment.operation import LARGEST_PIXEL

SEXTANT_DEG = 60.0


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
        """Return four numbers for each picture, float32.

        `shifts` in pixel levels and `contrasts`, factors from 0, `[batch, 1, 1, 1]`; `saturations`, factors from 0,
        and `sextants`, sixths of the circle of colours, `[batch]`.
        """

        def about(middle: float, largest: float, *rest: int) -> tf.Tensor:
            shape = [batch_size, *rest]
            return self._random_generator.uniform(shape, middle - largest, middle + largest)

        # In the unit in which they are applied: XLA would join a conversion with other constants, in another way for
        # one picture than for many.
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

    def augment_images(
        self, images: tf.Tensor, transformations: dict[str, tf.Tensor], **_: Any
    ) -> tf.Tensor:
        """Return the changed pictures, clipped to [0, 255] after each step, the shape kept."""
        if self.in_halves:
            return from_hsv(*self.to_planes(images, transformations))
        return self._without_hsv(images, transformations)

    def to_planes(
        self, images: tf.Tensor, transformations: dict[str, tf.Tensor]
    ) -> tuple[tf.Tensor, ...]:
        """Return value, chroma and hue of the changed pictures; `from_hsv` makes pictures of them."""
        images = self._without_hsv(images, transformations)
        return to_hsv(images, transformations["saturations"], transformations["sextants"])

    def _without_hsv(self, images: tf.Tensor, transformations: dict[str, tf.Tensor]) -> tf.Tensor:
        if self.jitter.brightness:
            images = tf.clip_by_value(images + transformations["shifts"], 0.0, LARGEST_PIXEL)
        if self.jitter.contrast:
            means = steady_means(images)
            images = means + (images - means) * transformations["contrasts"]
            images = tf.clip_by_value(images, 0.0, LARGEST_PIXEL)
        return images

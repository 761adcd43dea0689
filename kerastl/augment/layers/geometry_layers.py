"""A window of whole pixels, enlarged to the size of the image.

keras-cv 0.9.0 gives a smaller image, and samples it by nearest neighbor with a step that is a little above one pixel, so
that rows and columns inside the window are skipped.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf
from keras_cv import layers
from keras_cv.src.utils import preprocessing

from kerastl.augment.geometry import batch_invariant
from kerastl.augment.layers.base import AffineLayer, AffineMaps

SMALLEST_SIDE_PX = 2
"""A window of one pixel would be one color."""


class RandomCrop(AffineLayer):
    """Enlarge a window of fixed side, at a place in whole pixels that is uniform over all inside the image.

    Args:
        max_fraction: share of the side that is cut off.
        maps, kwargs: as for `AffineLayer`.
    """

    def __init__(self, max_fraction: float, maps: AffineMaps, **kwargs: Any) -> None:
        super().__init__(maps, fill_mode=None, **kwargs)
        self.max_fraction = max_fraction

    def get_random_transformation_batch(
        self, batch_size: Any, images: tf.Tensor, **_: Any
    ) -> dict[str, tf.Tensor]:
        """Return the windows.

        Returns:
            `tops` and `lefts`, first row and column, and `sides`: `[batch]` float32, whole numbers, in pixels.
        """
        size = int(images.shape[1])
        side = min(size, max(SMALLEST_SIDE_PX, round(size * (1 - self.max_fraction))))
        tops, lefts = (
            # Below the number of places also after rounding: these numbers are at most 1 - 2 ** -24.
            tf.floor(self._random_generator.uniform([batch_size]) * (size - side + 1.0))
            for _ in range(2)
        )
        return {"tops": tops, "lefts": lefts, "sides": tf.fill([batch_size], float(side))}


class RandomCropAndResize(AffineLayer):
    """Enlarge a window of random area and aspect ratio that lies inside the image.

    The area is uniform in [min_area_fraction, 1). The logarithm of the aspect ratio is uniform, wide and tall alike, in the part
    of its range in which a window of that area fits into the image. The place is uniform.

    Args:
        min_area_fraction: smallest area, as a share of the image's, above 0, to 1.
        max_aspect_ratio: largest ratio of width to height and of height to width, at least 1.
        maps, kwargs: as for `AffineLayer`.
    """

    def __init__(self, min_area_fraction: float, max_aspect_ratio: float, maps: AffineMaps, **kwargs: Any) -> None:
        super().__init__(maps, fill_mode=None, **kwargs)
        self.min_area_fraction = min_area_fraction
        self.max_aspect_ratio = max_aspect_ratio

    def get_random_transformation_batch(self, batch_size: Any, **_: Any) -> dict[str, tf.Tensor]:
        """Return the windows.

        Returns:
            `[batch]` float32: `areas`, a share of the image's; `aspects`, width over height; `tops` and `lefts`,
            0 where the window touches the image's first row or column, 1 where it touches the last.
        """
        draw = self._random_generator.uniform
        areas = draw([batch_size], self.min_area_fraction, 1.0)
        # A window of area a fits where its ratio lies between a and 1 / a.
        fits = -batch_invariant(tf.math.log, areas)
        widest = tf.minimum(math.log(self.max_aspect_ratio), fits)
        aspects = batch_invariant(tf.exp, widest * draw([batch_size], -1.0, 1.0))
        return {"areas": areas, "aspects": aspects, "tops": draw([batch_size]), "lefts": draw([batch_size])}


class RandomRotation(layers.RandomRotation):
    """`keras_cv.layers.RandomRotation` with `kerastl.augment.geometry.batch_invariant` sines and cosines.

    Those of its own would move the border of an image by a few hundredths of a pixel level with the batch.
    """

    def _rotate_images(self, images: tf.Tensor, transformations: dict[str, Any]) -> tf.Tensor:
        height, width = (tf.cast(size, tf.float32) for size in tf.unstack(tf.shape(images)[1:3]))
        matrices = batch_invariant(
            lambda angles: preprocessing.get_rotation_matrix(angles, height, width), transformations["angles"]
        )
        turned = preprocessing.transform(
            images,
            matrices,
            fill_mode=self.fill_mode,
            fill_value=self.fill_value,
            interpolation=self.interpolation,
        )
        return tf.ensure_shape(turned, images.shape)


class RandomShear(AffineLayer):
    """Slide rows along x, then columns along y, about the middle, in one resampling.

    Args:
        max_fraction: largest slope either way, in pixels for each pixel.
        maps, fill_mode, kwargs: as for `AffineLayer`.
    """

    def __init__(self, max_fraction: float, maps: AffineMaps, **kwargs: Any) -> None:
        super().__init__(maps, **kwargs)
        self.max_fraction = max_fraction

    def get_random_transformation_batch(self, batch_size: Any, **_: Any) -> dict[str, tf.Tensor]:
        """Return `slopes_x` and `slopes_y`, `[batch]` float32, uniform and independent."""
        return {
            name: self._random_generator.uniform([batch_size], -self.max_fraction, self.max_fraction)
            for name in ("slopes_x", "slopes_y")
        }

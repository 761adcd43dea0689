"""A window whose area is the one that was asked for, enlarged to the size of the picture.

keras-cv 0.9.0 draws area and aspect ratio from one seed, so that the largest windows are the widest; clips windows that
are longer than the picture, so that their area is smaller than asked for; draws the aspect ratio uniformly, so that
wide windows come more often than tall ones; and goes through a batch picture by picture.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from kerastl.augment.affine import steady
from kerastl.augment.corrected.mapped import Mapped, Maps


class WholeAreaCrop(Mapped):
    """Enlarge a window of random area and aspect ratio that lies inside the picture.

    The area is uniform in [min_area_fraction, 1). The logarithm of the aspect ratio is uniform, wide and tall alike, in the part
    of its range in which a window of that area fits into the picture. The place is uniform.

    Args:
        min_area_fraction: smallest area, as a share of the picture's, above 0, to 1.
        max_aspect_ratio: largest ratio of width to height and of height to width, at least 1.
        maps, kwargs: as for `Mapped`.
    """

    def __init__(
        self, min_area_fraction: float, max_aspect_ratio: float, maps: Maps, **kwargs: Any
    ) -> None:
        super().__init__(maps, fill_mode=None, **kwargs)
        self.min_area_fraction = min_area_fraction
        self.max_aspect_ratio = max_aspect_ratio

    def get_random_transformation_batch(self, batch_size: Any, **_: Any) -> dict[str, tf.Tensor]:
        """Return the windows.

        Returns:
            `[batch]` float32: `areas`, a share of the picture's; `aspects`, width over height; `tops` and `lefts`,
            0 where the window touches the picture's first row or column, 1 where it touches the last.
        """
        draw = self._random_generator.uniform
        areas = draw([batch_size], self.min_area_fraction, 1.0)
        # A window of area a fits where its ratio lies between a and 1 / a.
        fits = -steady(tf.math.log, areas)
        widest = tf.minimum(math.log(self.max_aspect_ratio), fits)
        aspects = steady(tf.exp, widest * draw([batch_size], -1.0, 1.0))
        return {
            "areas": areas,
            "aspects": aspects,
            "tops": draw([batch_size]),
            "lefts": draw([batch_size]),
        }

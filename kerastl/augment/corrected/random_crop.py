"""A window of whole pixels, enlarged to the size of the picture.

keras-cv 0.9.0 gives a smaller picture, and samples it by nearest neighbour with a step that is a little above one pixel, so
that rows and columns inside the window are skipped.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from kerastl.augment.corrected.mapped import Mapped, Maps

SMALLEST_SIDE_PX = 2
"""A window of one pixel would be one colour."""


class WholePixelCrop(Mapped):
    """Enlarge a window of fixed side, at a place in whole pixels that is uniform over all inside the picture.

    Args:
        max_fraction: share of the side that is cut off.
        maps, kwargs: as for `Mapped`.
    """

    def __init__(self, max_fraction: float, maps: Maps, **kwargs: Any) -> None:
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

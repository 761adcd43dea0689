"""A shear about the middle.

keras-cv 0.9.0 shears about the top left corner, so that the picture also moves, by up to half of the strength times its
side; draws both slopes from one seed, so that their sizes go together; and resamples twice.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from kerastl.augment.corrected.mapped import Mapped, Maps


class CentredShear(Mapped):
    """Slide rows along x, then columns along y, about the middle, in one resampling.

    Args:
        max_fraction: largest slope either way, in pixels for each pixel.
        maps, fill_mode, kwargs: as for `Mapped`.
    """

    def __init__(self, max_fraction: float, maps: Maps, **kwargs: Any) -> None:
        super().__init__(maps, **kwargs)
        self.max_fraction = max_fraction

    def get_random_transformation_batch(self, batch_size: Any, **_: Any) -> dict[str, tf.Tensor]:
        """Return `slopes_x` and `slopes_y`, `[batch]` float32, uniform and independent."""
        return {
            name: self._random_generator.uniform(
                [batch_size], -self.max_fraction, self.max_fraction
            )
            for name in ("slopes_x", "slopes_y")
        }

"""AugMix, drawn for the whole batch, with all of its operations.

keras-cv 0.9.0's turns pictures by up to 9 radians where 30 degrees are meant, numbers nine operations and draws the first
eight, takes its weights from the global generator, and draws while it changes the pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from kerastl.augment.corrected.container import (
    Choice,
    Container,
    Maker,
    only_chosen,
    picture_by_picture,
)
from kerastl.augment.draws import Draws
from kerastl.augment.operation import LARGEST_PIXEL
from kerastl.recipe import Operation


def flat_dirichlet(draws: Draws, batch_size: Any, count: int) -> tf.Tensor:
    """Return shares from Dirichlet(1, ..., 1): the gaps between uniform numbers put in order.

    No logarithm is asked, whose last digit TensorFlow gives by the size of the batch.

    Args:
        draws: where the numbers come from.
        batch_size: scalar int32.
        count: of the shares, at least 1.

    Returns:
        `[batch, count]` float32 in [0, 1]; the sum of a row is 1.
    """
    if count == 1:
        return tf.ones([batch_size, 1])
    cuts = tf.sort(draws.uniform([batch_size, count - 1]), axis=1)
    edges = tf.pad(tf.pad(cuts, [[0, 0], [1, 0]]), [[0, 0], [0, 1]], constant_values=1.0)
    return edges[:, 1:] - edges[:, :-1]


class SteadyAugMix(Container):
    """Mix each picture with the ends of some chains of operations.

    Args:
        operations: what the links of the chains are drawn from.
        num_chains: how many chains.
        max_depth: most operations in a chain; each number from 1 on equally often.
        kwargs: `dtype` and `seed`, for keras-cv.
    """

    def __init__(
        self, operations: Sequence[Operation], *, num_chains: int, max_depth: int, **kwargs: Any
    ) -> None:
        super().__init__(operations, **kwargs)
        self.num_chains, self.max_depth = num_chains, max_depth

    def connect(self, how: Maker, *, compiles: bool) -> None:
        """Make the functions that change pictures."""
        self._choice = Choice(self.members, with_nothing=False, how=how)
        self._run = picture_by_picture(self._change, compiles=compiles)

    def get_random_transformation_batch(
        self, batch_size: Any, images: Any = None, **_: Any
    ) -> dict[str, Any]:
        """Return what is random.

        Returns:
            `links`, from `Choice.draw`, for each chain its links, nothing beyond its end; `weights`,
            `[batch, num_chains]` float32, the share of each chain in the result: the picture has the rest.
        """
        draws, shape = self._random_generator, [batch_size, self.num_chains]
        depths = 1.0 + tf.floor(draws.uniform(shape) * self.max_depth)
        own = draws.uniform([batch_size, 1])
        weights = (1.0 - own) * flat_dirichlet(draws, batch_size, self.num_chains)
        count = self.num_chains * self.max_depth
        links = self._choice.draw(draws, images, batch_size, count)
        within = tf.range(self.max_depth, dtype=tf.float32) < depths[:, :, None]
        links["which"] = tf.where(tf.reshape(within, [-1, count]), links["which"], 0)
        return {"links": links, "weights": weights}

    def augment_images(
        self,
        images: tf.Tensor,
        transformations: dict[str, Any],
        chosen: tf.Tensor | None = None,
        **_: Any,
    ) -> tf.Tensor:
        """Return the mixed pictures; `chosen`, `[batch]` bool, says which may be changed (None: all)."""
        drawn = {**transformations, "links": only_chosen(transformations["links"], chosen)}
        return tf.ensure_shape(self._run(images, drawn), images.shape)

    def _change(self, picture: tf.Tensor, own: dict[str, Any]) -> tf.Tensor:
        def mixed_in(chain: tf.Tensor, so_far: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            first = chain * self.max_depth
            end = self._choice.change(picture, own["links"], first, self.max_depth)
            # Moved towards each end by its weight: what all chains leave alone keeps its bytes.
            return chain + 1, so_far + own["weights"][chain] * (end - picture)

        start = (tf.constant(0), picture)
        _, mixed = tf.while_loop(lambda chain, _: chain < self.num_chains, mixed_in, start)
        # Rounding can carry the sum over an end of the range.
        return tf.clip_by_value(mixed, 0.0, LARGEST_PIXEL)

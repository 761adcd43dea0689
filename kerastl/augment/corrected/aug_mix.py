"""AugMix, batched in its draws, with all of its operations.

keras-cv 0.9.0's turns pictures by up to 9 radians where 30 degrees are meant, numbers nine operations and draws the first
eight, divides a single gamma number by itself where it wants a Dirichlet one for each chain, and draws
while it changes the pictures.
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
from kerastl.augment.operation import Drawn
from kerastl.recipe.plugins import Operation


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


@tf.function(jit_compile=True, autograph=False)
def _mixed(picture: tf.Tensor, chains: Sequence[tf.Tensor], weights: tf.Tensor) -> tf.Tensor:
    """Return the picture, moved towards each chain by its weight; what all chains leave alone keeps its bytes."""
    shifts = [weights[place] * (chain - picture) for place, chain in enumerate(chains)]
    return picture + sum(shifts)


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

    def connect(self, how: Maker) -> None:
        """Make the functions that change pictures."""
        self._choice = Choice(self.members, with_nothing=False, how=how)
        self._run = tf.function(self._all, autograph=False, reduce_retracing=True)

    def get_random_transformation_batch(
        self, batch_size: Any, images: Any = None, **_: Any
    ) -> dict[str, Any]:
        """Return what is random.

        Returns:
            `links`, from `Choice.draw`, a batch for each link of each chain, nothing beyond a chain's end;
            `weights`, `[batch, num_chains]` float32, the share of each chain in the result: the picture has the rest.
        """
        draws, links = self._random_generator, self.num_chains * self.max_depth
        depths = 1.0 + tf.floor(draws.uniform([batch_size, self.num_chains]) * self.max_depth)
        own = draws.uniform([batch_size, 1])
        weights = (1.0 - own) * flat_dirichlet(draws, batch_size, self.num_chains)
        drawn = self._choice.draw(draws.children(links), images, batch_size * links)
        number = tf.range(self.max_depth, dtype=tf.float32)[None, :, None]
        within = tf.reshape(number < tf.transpose(depths)[:, None, :], [-1])
        drawn["which"] = tf.where(within, drawn["which"], 0)
        return {"links": drawn, "weights": weights}

    def augment_images(
        self,
        images: tf.Tensor,
        transformations: dict[str, Any],
        chosen: tf.Tensor | None = None,
        **_: Any,
    ) -> tf.Tensor:
        """Return the mixed pictures; `chosen`, `[batch]` bool, says which may be changed (None: all)."""
        links = only_chosen(transformations["links"], chosen, self.num_chains * self.max_depth)
        mixed = self._run(images, links, transformations["weights"])
        return tf.ensure_shape(mixed, images.shape)

    def _all(self, images: tf.Tensor, links: Drawn, weights: tf.Tensor) -> tf.Tensor:
        batch_size = tf.shape(images)[0]

        def change(picture: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
            ends = []
            for chain in range(self.num_chains):
                end = picture
                for link in range(self.max_depth):
                    row = (chain * self.max_depth + link) * batch_size + place
                    end = self._choice.change(end, links, row)
                ends.append(end)
            return _mixed(picture, ends, weights[place])

        return picture_by_picture(change, images)

"""Some of several operations, drawn for each picture, one after the other: RandomChoice and RandAugment."""

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
from kerastl.augment.operation import Drawn
from kerastl.recipe.plugins import Operation


class SomeOf(Container):
    """Do so many operations to each picture, each time one of those it holds, each equally often.

    Args:
        operations: what it holds; none twice.
        num_operations: how many each picture gets, one after the other.
        with_nothing: whether to do nothing is one of them, too.
        kwargs: `dtype` and `seed`, for keras-cv.
    """

    def __init__(
        self,
        operations: Sequence[Operation],
        *,
        num_operations: int = 1,
        with_nothing: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(operations, **kwargs)
        self.num_operations = num_operations
        self.with_nothing = with_nothing

    def connect(self, how: Maker) -> None:
        """Make the functions that change pictures."""
        self._choice = Choice(self.members, with_nothing=self.with_nothing, how=how)
        self._run = tf.function(self._all, autograph=False, reduce_retracing=True)

    def get_random_transformation_batch(
        self, batch_size: Any, images: Any = None, **_: Any
    ) -> Drawn:
        """Return what `Choice.draw` does, `num_operations` times the batch; step s draws from `child(s)`."""
        steps = self._random_generator.children(self.num_operations)
        return self._choice.draw(steps, images, batch_size * self.num_operations)

    def augment_images(
        self,
        images: tf.Tensor,
        transformations: Drawn,
        chosen: tf.Tensor | None = None,
        **_: Any,
    ) -> tf.Tensor:
        """Return the changed pictures; `chosen`, `[batch]` bool, says which may be (None: all)."""
        drawn = only_chosen(transformations, chosen, self.num_operations)
        return tf.ensure_shape(self._run(images, drawn), images.shape)

    def _all(self, images: tf.Tensor, drawn: Drawn) -> tf.Tensor:
        batch_size = tf.shape(images)[0]

        def change(picture: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
            for step in range(self.num_operations):
                picture = self._choice.change(picture, drawn, step * batch_size + place)
            return picture

        return picture_by_picture(change, images)

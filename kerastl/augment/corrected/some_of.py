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
from kerastl.recipe import Operation


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

    def connect(self, how: Maker, *, compiles: bool) -> None:
        """Make the functions that change pictures."""
        self._choice = Choice(self.members, with_nothing=self.with_nothing, how=how)
        self._run = picture_by_picture(self._change, compiles=compiles)

    def get_random_transformation_batch(
        self, batch_size: Any, images: Any = None, **_: Any
    ) -> Drawn:
        """Return what `Choice.draw` does, `num_operations` times."""
        return self._choice.draw(self._random_generator, images, batch_size, self.num_operations)

    def augment_images(
        self,
        images: tf.Tensor,
        transformations: Drawn,
        chosen: tf.Tensor | None = None,
        **_: Any,
    ) -> tf.Tensor:
        """Return the changed pictures; `chosen`, `[batch]` bool, says which may be (None: all)."""
        changed = self._run(images, only_chosen(transformations, chosen))
        return tf.ensure_shape(changed, images.shape)

    def _change(self, picture: tf.Tensor, own: Drawn) -> tf.Tensor:
        return self._choice.change(picture, own, 0, self.num_operations)

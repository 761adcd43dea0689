"""Several operations in their order, on those pictures that are chosen: RandomApply."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from kerastl.augment.corrected.container import Container, Maker
from kerastl.augment.operation import Drawn


class InOrder(Container):
    """Do all operations it holds, folded and compiled together as in a policy of their own.

    The whole batch goes through one compiled function, in which a picture that is not chosen keeps its bytes: half
    of the pictures one by one cost more than all at once.
    """

    def connect(self, how: Maker, *, compiles: bool) -> None:
        """Make the functions that change pictures."""
        self._together = how(self.members)
        self.compiles = compiles

    def get_random_transformation_batch(
        self,
        batch_size: Any,
        images: Any = None,
        **_: Any,
    ) -> list[Drawn]:
        """Return what each operation drew, operation k from `child(k)`."""
        draws = self._random_generator
        return [
            one.draw(draws.child(at), images, batch_size) for at, one in enumerate(self.members)
        ]

    def augment_images(
        self,
        images: tf.Tensor,
        transformations: list[Drawn],
        chosen: tf.Tensor | None = None,
        **_: Any,
    ) -> tf.Tensor:
        """Return the changed pictures; `chosen`, `[batch]` bool, says which (None: all)."""
        drawn = [_only(chosen, numbers) for numbers in transformations]
        return self._together(images, drawn)


def _only(chosen: tf.Tensor | None, drawn: Drawn) -> Drawn:
    """Return what was drawn, for the chosen pictures only."""
    if chosen is None or not drawn:
        return drawn
    both = drawn["chosen"] & chosen if "chosen" in drawn else chosen
    return {**drawn, "chosen": both}

"""Several operations in their order, on those pictures that are chosen: RandomApply."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from kerastl.augment.corrected.container import Container, Maker, picture_by_picture, row_of


class InOrder(Container):
    """Do all operations it holds, folded and compiled together as in a policy of their own."""

    def connect(self, how: Maker) -> None:
        """Make the functions that change pictures."""
        self._together = how(self.members)
        self._run = tf.function(self._some, autograph=False, reduce_retracing=True)

    def get_random_transformation_batch(
        self,
        batch_size: Any,
        images: Any = None,
        **_: Any,
    ) -> dict[str, list[Any]]:
        """Return `numbers`, what the operations ask for; operation k draws from `child(k)`."""
        draws = self._random_generator
        drawn = [
            one.draw(draws.child(at), images, batch_size) for at, one in enumerate(self.members)
        ]
        return {"numbers": self._together.prepare(drawn)}

    def augment_images(
        self,
        images: tf.Tensor,
        transformations: dict[str, list[Any]],
        chosen: tf.Tensor | None = None,
        **_: Any,
    ) -> tf.Tensor:
        """Return the changed pictures; those not `chosen`, `[batch]` bool, cost nothing."""
        numbers = transformations["numbers"]
        if chosen is None:
            return self._together.change(images, numbers)
        return tf.ensure_shape(self._run(images, numbers, chosen), images.shape)

    def _some(self, images: tf.Tensor, numbers: list[Any], chosen: tf.Tensor) -> tf.Tensor:
        def change(picture: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
            def changed() -> tf.Tensor:
                return self._together.change(picture, row_of(numbers, place))

            return tf.cond(chosen[place], changed, lambda: tf.identity(picture))

        return picture_by_picture(change, images)

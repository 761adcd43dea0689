"""Layers that do other operations to each picture: what they share.

keras-cv 0.9.0's own take one picture after the other through whole layers, with stateful draws. Here everything is drawn for the
whole batch, then each picture goes through the operations that were drawn for it and no others, each of them compiled
for one picture. Measured against it: all operations on the whole batch and a selection of the results does the
work of all; pictures gathered by operation make batches of other sizes each time, for which XLA would compile anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from keras_cv.layers import VectorizedBaseImageAugmentationLayer

from kerastl.augment.colours import Pass
from kerastl.augment.compiler import Compiled, compiled
from kerastl.augment.draws import Draws
from kerastl.augment.operation import BuiltOperation, Drawn
from kerastl.recipe.plugins import Operation

Maker = Callable[[Sequence[BuiltOperation]], Compiled]


class Container(VectorizedBaseImageAugmentationLayer):
    """Base of layers that hold operations.

    Args:
        operations: what it holds.
        kwargs: `dtype` and `seed`, for keras-cv.
    """

    def __init__(self, operations: Sequence[Operation], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._held = tuple((one.name, one.options) for one in operations)

    def build_members(self, image_size_px: int) -> None:
        """Build what it holds, once, before anything is drawn.

        Args:
            image_size_px: side of the square pictures.
        """
        self.members = tuple(
            BuiltOperation(place, name, options, image_size_px)
            for place, (name, options) in enumerate(self._held)
        )
        self.connect(compiled)

    def run_exactly(self) -> None:
        """Run the layers' own code from now on, as reference: nothing folded, nothing compiled."""
        for one in self.members:
            one.run_exactly()
        self.connect(_one_after_the_other)

    def connect(self, how: Maker) -> None:  # noqa: ARG002 - those that fill it in need it
        """Make the functions that change pictures.

        Args:
            how: from operations to a function that does them, as `kerastl.augment.compiler.compiled`.
        """
        raise AssertionError(f"{type(self).__name__} does not say how it runs")


def _one_after_the_other(operations: Sequence[BuiltOperation]) -> Compiled:
    """Return a function that does all operations, each by its layer's own code."""
    return Compiled(
        [(Pass(lambda drawn: drawn[0], one.apply), [at]) for at, one in enumerate(operations)]
    )


def picture_by_picture(
    change: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], images: tf.Tensor
) -> tf.Tensor:
    """Return the pictures, each changed by itself.

    Args:
        change: `(picture, place) -> picture`, `[1, height, width, channels]` float32 and its place in the batch.
        images: `[batch, height, width, channels]` float32.
    """
    shape = images.shape[1:]

    def changed(place: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(change(images[place][None], place), [1, *shape])[0]

    spec = tf.TensorSpec(shape, tf.float32)
    return tf.map_fn(changed, tf.range(tf.shape(images)[0]), fn_output_signature=spec)


class Choice:
    """One of several operations for each picture; nothing at all may be one of them.

    Args:
        members: operations; drawn equally often.
        with_nothing: whether nothing at all is drawn as often as each member.
        how: from operations to a function that does them, as `kerastl.augment.compiler.compiled`.
    """

    def __init__(
        self,
        members: Sequence[BuiltOperation],
        *,
        with_nothing: bool,
        how: Maker,
    ) -> None:
        self._members = members
        self._with_nothing = with_nothing
        self._runs = [how([one]) for one in members]
        self._change = tf.function(self._changed, autograph=False)

    def draw(self, draws: Draws, images: tf.Tensor, rows: tf.Tensor) -> Drawn:
        """Return what is random.

        Args:
            draws: where the numbers come from; member k draws from `draws.child(k)`.
            images: `[batch, size, size, channels]`; only their shape counts. Members that need colour are not
                drawn for pictures of one channel.
            rows: how many are drawn, scalar int32.

        Returns:
            `which`, `[rows]` int32, 0 for nothing and k + 1 for member k; `numbers`, of each member what it asks for.
        """
        grey = images.shape[-1] == 1
        able = [place for place, one in enumerate(self._members) if not (grey and one.needs_colour)]
        choices = [0] * self._with_nothing + [place + 1 for place in able]
        place = tf.cast(draws.uniform([rows]) * len(choices), tf.int32)
        which = tf.gather(tf.constant(choices), tf.minimum(place, len(choices) - 1))
        numbers = [
            self._runs[at].prepare([one.draw(draws.child(at), images, rows)]) if at in able else []
            for at, one in enumerate(self._members)
        ]
        return {"which": which, "numbers": numbers}

    def change(self, picture: tf.Tensor, drawn: Drawn, row: tf.Tensor) -> tf.Tensor:
        """Return one picture, changed.

        Args:
            picture: `[1, size, size, channels]` float32.
            drawn: from `draw`.
            row: which row of it.
        """
        return self._change(picture, drawn["which"][row], drawn["numbers"], row)

    def _changed(self, picture: tf.Tensor, which: tf.Tensor, numbers: Any, row: tf.Tensor) -> Any:
        def branch(member: int) -> Callable[[], tf.Tensor]:
            def does() -> tf.Tensor:
                return self._runs[member].change(picture, row_of(numbers[member], row))

            return does

        def nothing() -> tf.Tensor:
            return tf.identity(picture)

        # A member that is not able has no numbers, and is never asked.
        branches = [branch(at) if numbers[at] else nothing for at in range(len(self._members))]
        return tf.switch_case(which, [nothing, *branches])


def row_of(numbers: Any, row: tf.Tensor) -> Any:
    """Return one row of every tensor, as a batch of one."""
    return tf.nest.map_structure(lambda rows: rows[row][None], numbers)


def only_chosen(drawn: Drawn, chosen: tf.Tensor | None, times: int) -> Drawn:
    """Return the same draws, with nothing where a picture is not chosen.

    Args:
        drawn: from `Choice.draw`, `times * batch` rows.
        chosen: `[batch]` bool; None: all are.
        times: how often each picture was drawn for, one batch after the other.
    """
    if chosen is None:
        return drawn
    return {**drawn, "which": tf.where(tf.tile(chosen, [times]), drawn["which"], 0)}

"""One door to augmentation: a list of operations in, a function of images and seeds out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from kerastl.augment.compiler import compiled
from kerastl.augment.draws import Draws
from kerastl.augment.given import checked_pictures
from kerastl.augment.named import Operation, named
from kerastl.augment.operation import BuiltOperation, Lowering
from kerastl.errors import RequestError


def build_policy(
    operations: Sequence[Operation | Mapping[str, Any] | str],
    *,
    image_size_px: int,
    channels: int = 3,
    exact: bool = False,
) -> Policy:
    """Return a function that changes pictures, each by its own seed.

    Args:
        operations: in their order: `(name, options)`, or `{"name": ..., option: value, ...}`; none at all
            is allowed and changes nothing.
        image_size_px: side of the square pictures.
        channels: 3, or 1 where every operation works on grey.
        exact: run keras-cv's layers one after the other, as reference: nothing folded, nothing compiled.

    Returns:
        `policy(images, seeds) -> images`: images `[batch, size, size, channels]` float32 in [0, 255];
        seeds `[batch, 2]` int32. An example's bytes depend on its picture and its seed alone: not on its
        batch, the process, or the number of parallel calls. Labels never travel through it.

    Raises:
        RequestError: no such operation or option, a value out of bounds, or an operation that needs
            colour for grey pictures.
    """
    return Policy(named(operations), image_size_px=image_size_px, channels=channels, exact=exact)


class Policy:
    """What `build_policy` returns.

    Attributes:
        lowering: (operation, how it is done) in their order; how is `nothing`, `folded`, `hsv`, `linear`, `compiled`
            or `layer`, as in `BuiltOperation`, and always `layer` where `exact`.
        words: what it does, in full: two policies of the same words change a picture alike.
    """

    def __init__(
        self, operations: Sequence[Operation], *, image_size_px: int, channels: int, exact: bool
    ) -> None:
        self._shape = [None, image_size_px, image_size_px, channels]
        self.words = repr((list(operations), image_size_px, channels, exact))
        self._operations = [
            BuiltOperation(place, *operation, image_size_px)
            for place, operation in enumerate(operations)
        ]
        if exact:
            for one in self._operations:
                one.run_exactly()
        coloured = [one.name for one in self._operations if channels == 1 and one.needs_colour]
        if coloured:
            raise RequestError(f"{coloured[0]} needs colour pictures; these are grey.")
        self.lowering: list[tuple[str, Lowering]] = [
            (one.name, "layer" if exact and one.lowering != "nothing" else one.lowering)
            for one in self._operations
        ]
        self._run = self._one_after_the_other if exact else compiled(self._operations)

    def __call__(self, images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """Return the changed pictures; see `build_policy`."""
        images, seeds = checked_pictures(images, seeds, self._shape)
        drawn = [one.draw(Draws(seeds, one.place), images) for one in self._operations]
        return self._run(images, drawn)

    def _one_after_the_other(self, images: tf.Tensor, drawn: Sequence[Any]) -> tf.Tensor:
        for one, numbers in zip(self._operations, drawn, strict=True):
            images = one.apply(images, numbers)
        return images

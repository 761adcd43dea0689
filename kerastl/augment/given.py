"""What a caller of a policy or a mixing gives: of the shapes and kinds that were promised, or a clear error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from kerastl.errors import RequestError

Shape = Sequence[int | None]


def checked_pictures(images: Any, seeds: Any, shape: Shape) -> tuple[tf.Tensor, tf.Tensor]:
    """Return float32 images of a shape, and their int32 seeds `[batch, 2]`.

    Args:
        images: anything that is a tensor of numbers.
        seeds: anything that is a tensor of whole numbers.
        shape: `[None, size, size, channels]`.

    Raises:
        RequestError: they have other shapes, or seeds that are no whole numbers.
    """
    images = checked("images", images, shape)
    seeds = checked("seeds", seeds, [None, 2], whole=True)
    if not images.shape[:1].is_compatible_with(seeds.shape[:1]):
        raise RequestError(f"There are {images.shape[0]} images and {seeds.shape[0]} seeds.")
    return tf.cast(images, tf.float32), tf.cast(seeds, tf.int32)


def checked(name: str, given: Any, shape: Shape, *, whole: bool = False) -> tf.Tensor:
    """Return a tensor of a shape, of whole numbers where they are asked for.

    Raises:
        RequestError: its shape is another one, or it holds no whole numbers.
    """
    given = tf.convert_to_tensor(given)
    if not given.shape.is_compatible_with(shape):
        told = ", ".join("batch" if size is None else str(size) for size in shape)
        raise RequestError(f"{name}: must be [{told}], got {given.shape.as_list()}.")
    if whole and not given.dtype.is_integer:
        raise RequestError(f"{name}: must be whole numbers, int32, got {given.dtype.name}.")
    return tf.ensure_shape(given, shape)

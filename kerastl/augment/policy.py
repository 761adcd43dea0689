"""One door to augmentation: a list of operations in, a function of images and seeds out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import Any

import tensorflow as tf

from kerastl.augment.color import Pass, build_color_pass
from kerastl.augment.geometry import product
from kerastl.augment.operation import BuiltOperation, Params, Lowering
from kerastl.augment.parse_operations import Operation, named
from kerastl.augment.stateless_random import StatelessGenerator
from kerastl.augment.warp import source_coordinates, neighbors, resample
from kerastl.errors import RequestError

WARP, COLOR, LAYER = "warp", "colour", "layer"


class Compiled:
    """What `compiled` returns: a function `(images, params) -> images`, or its two halves one after the other.

    Args:
        passes: in their order, each with the places of its operations among all.
    """

    def __init__(self, passes: Sequence[tuple[Pass, Sequence[int]]]) -> None:
        self._passes = passes

    def __call__(self, images: tf.Tensor, params: Sequence[Params]) -> tf.Tensor:
        """Return the changed images."""
        return self.change(images, self.prepare(params))

    def prepare(self, params: Sequence[Params]) -> list[Any]:
        """Return what the passes ask for: small tensors, rows by example.

        Args:
            drawn: what each operation drew, in their order.
        """
        return [one.prepare([params[at] for at in places]) for one, places in self._passes]

    def change(self, images: tf.Tensor, prepared: Sequence[Any]) -> tf.Tensor:
        """Return the changed images; of each, `prepared` has one row."""
        for (one, _), numbers in zip(self._passes, prepared, strict=True):
            images = tf.ensure_shape(one.change(images, numbers), images.shape)
        return images


def compiled(operations: Sequence[BuiltOperation]) -> Compiled:
    """Return a function that does all operations.

    Args:
        operations: in their order.

    Returns:
        `run(images, params) -> images`; drawn is what each operation drew, in the same order.
    """
    passes: list[tuple[Pass, list[int]]] = []
    for kind, places in _passes(operations):
        members = [operations[place] for place in places]
        if kind == WARP and all(one.compiles for one in members):
            # Mirrors alone: XLA's own reversal is quicker than a warp.
            kind = COLOR
        passes.append((MAKERS[kind](members), places))
    return Compiled(passes)


def _passes(operations: Sequence[BuiltOperation]) -> list[tuple[str, list[int]]]:
    """Return (kind, places) of what is done in one pass."""
    passes: list[tuple[str, list[int]]] = []
    filled: str | None = None
    for place, one in enumerate(operations):
        if one.lowering == "nothing":
            continue
        kind = {"folded": WARP, "layer": LAYER}.get(one.lowering, COLOR)
        joins = bool(passes) and passes[-1][0] == kind != LAYER
        # What never looks outside of the image, as a mirror, joins a warp that fills the outside in any way.
        if joins and kind == WARP and None not in (filled, one.fill_mode):
            joins = filled == one.fill_mode
        if joins:
            passes[-1][1].append(place)
        else:
            passes.append((kind, [place]))
            filled = None
        filled = filled or one.fill_mode
    return passes


def _one_warp(members: Sequence[BuiltOperation]) -> Pass:
    # Windows alone look outside by rounding at most.
    fill_mode = next((one.fill_mode for one in members if one.fill_mode), "nearest")

    # Three compiled functions: in one, XLA would look every pixel up once more for each channel and neighbour, and
    # round its place otherwise each time.
    looked_up, found, resampled = (
        tf.function(partial(one, fill_mode=fill_mode), jit_compile=True, autograph=False)
        for one in (source_coordinates, neighbors, resample)
    )

    def warped(images: tf.Tensor, maps: tf.Tensor) -> tf.Tensor:
        x, y = looked_up(maps, *images.shape[1:3])
        places = (tf.ensure_shape(place, [None, *images.shape[1:3]]) for place in (x, y))
        return resampled(images, *found(*places))

    def maps(params: Sequence[Params]) -> tf.Tensor:
        each = [one.maps(numbers) for one, numbers in zip(members, params, strict=True)]
        return tf.cast(reduce(product, each), tf.float32)

    return Pass(maps, warped)


def _layer_itself(members: Sequence[BuiltOperation]) -> Pass:
    (only,) = members
    return Pass(lambda params: params[0], only.apply)


MAKERS: dict[str, Callable[[Sequence[BuiltOperation]], Pass]] = {
    WARP: _one_warp,
    COLOR: build_color_pass,
    LAYER: _layer_itself,
}


Shape = Sequence[int | None]


def check_images_and_seeds(images: Any, seeds: Any, shape: Shape) -> tuple[tf.Tensor, tf.Tensor]:
    """Return float32 images of a shape, and their int32 seeds `[batch, 2]`.

    Args:
        images: anything that is a tensor of numbers.
        seeds: anything that is a tensor of whole numbers.
        shape: `[None, size, size, channels]`.

    Raises:
        RequestError: they have other shapes, or seeds that are no whole numbers.
    """
    images = check_tensor("images", images, shape)
    seeds = check_tensor("seeds", seeds, [None, 2], whole=True)
    if not images.shape[:1].is_compatible_with(seeds.shape[:1]):
        raise RequestError(f"There are {images.shape[0]} images and {seeds.shape[0]} seeds.")
    return tf.cast(images, tf.float32), tf.cast(seeds, tf.int32)


def check_tensor(name: str, given: Any, shape: Shape, *, whole: bool = False) -> tf.Tensor:
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


def build_policy(
    operations: Sequence[Operation | Mapping[str, Any] | str],
    *,
    image_size_px: int,
    channels: int = 3,
    exact: bool = False,
) -> Policy:
    """Return a function that changes images, each by its own seed.

    Args:
        operations: in their order: `(name, options)`, or `{"name": ..., option: value, ...}`; none at all
            is allowed and changes nothing.
        image_size_px: side of the square images.
        channels: 3, or 1 where every operation works on grey.
        exact: run keras-cv's layers one after the other, as reference: nothing folded, nothing compiled.

    Returns:
        `policy(images, seeds) -> images`: images `[batch, size, size, channels]` float32 in [0, 255];
        seeds `[batch, 2]` int32. An example's bytes depend on its image and its seed alone: not on its
        batch, the process, or the number of parallel calls. Labels never travel through it.

    Raises:
        RequestError: no such operation or option, a value out of bounds, or an operation that needs
            colour for grey images.
    """
    return Policy(named(operations), image_size_px=image_size_px, channels=channels, exact=exact)


class Policy:
    """What `build_policy` returns.

    Attributes:
        lowering: (operation, how it is done) in their order; how is `nothing`, `folded`, `hsv`, `linear`, `compiled`
            or `layer`, as in `BuiltOperation`, and always `layer` where `exact`.
        words: what it does, in full: two policies of the same words change an image alike.
    """

    def __init__(
        self, operations: Sequence[Operation], *, image_size_px: int, channels: int, exact: bool
    ) -> None:
        self._shape = [None, image_size_px, image_size_px, channels]
        self.words = repr((list(operations), image_size_px, channels, exact))
        self._operations = [
            BuiltOperation(place, *operation, image_size_px) for place, operation in enumerate(operations)
        ]
        if exact:
            for one in self._operations:
                one.run_exactly()
        coloured = [one.name for one in self._operations if channels == 1 and one.needs_color]
        if coloured:
            raise RequestError(f"{coloured[0]} needs colour images; these are grey.")
        self.lowering: list[tuple[str, Lowering]] = [
            (one.name, "layer" if exact and one.lowering != "nothing" else one.lowering)
            for one in self._operations
        ]
        self._run = self._one_after_the_other if exact else compiled(self._operations)

    def __call__(self, images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """Return the changed images; see `build_policy`."""
        images, seeds = check_images_and_seeds(images, seeds, self._shape)
        params = [one.draw(StatelessGenerator(seeds, one.place), images) for one in self._operations]
        return self._run(images, params)

    def _one_after_the_other(self, images: tf.Tensor, params: Sequence[Any]) -> tf.Tensor:
        for one, numbers in zip(self._operations, params, strict=True):
            images = one.apply(images, numbers)
        return images

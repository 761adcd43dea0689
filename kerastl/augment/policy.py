"""Augmentation policies: a list of operations becomes a function of images and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial, reduce
from typing import Any, Literal

import tensorflow as tf

from kerastl.augment.color import Pass, build_color_pass
from kerastl.augment.geometry import neighbors, product, resample, source_coordinates
from kerastl.augment.operation import BuiltOperation, Params
from kerastl.augment.operation_options import Operation, parse_operations
from kerastl.augment.stateless_random import StatelessGenerator
from kerastl.errors import RequestError
from kerastl.image_size import Size, as_size, plain_size
from kerastl.options import checked, describe_value
from kerastl.recipe import AnyImageSize

Shape = Sequence[int | None]


class CompiledOperations:
    """A function `(images, params) -> images` that applies operations in as few passes as possible.

    Args:
        passes: The passes in order, each with the indices of its operations.
    """

    def __init__(self, passes: Sequence[tuple[Pass, Sequence[int]]]) -> None:
        self._passes = passes

    def __call__(self, images: tf.Tensor, params: Sequence[Params]) -> tf.Tensor:
        """Return the augmented images; `params` holds the parameters of each operation, in order."""
        return self.apply(images, self.prepare(params))

    def prepare(self, params: Sequence[Params]) -> list[Any]:
        """Return the arguments of the passes: small tensors with one row per example."""
        return [stage.prepare([params[index] for index in indices]) for stage, indices in self._passes]

    def apply(self, images: tf.Tensor, prepared: Sequence[Any]) -> tf.Tensor:
        """Return the augmented images, given the result of `prepare`."""
        for (stage, _), arguments in zip(self._passes, prepared, strict=True):
            images = tf.ensure_shape(stage.apply(images, arguments), images.shape)
        return images


def compile_operations(operations: Sequence[BuiltOperation]) -> CompiledOperations:
    """Group operations into passes, in their order."""
    passes: list[tuple[Pass, list[int]]] = []
    for kind, indices in _group_operations(operations):
        members = [operations[index] for index in indices]
        if kind == "folded" and not all(member.compiles for member in members):
            stage = _build_warp_pass(members)
        elif kind == "layer":
            stage = Pass(lambda params: params[0], members[0].apply)
        else:
            # Flips alone, too: they are faster as a reversal than as a warp.
            stage = build_color_pass(members)
        passes.append((stage, indices))
    return CompiledOperations(passes)


def _group_operations(operations: Sequence[BuiltOperation]) -> list[tuple[str, list[int]]]:
    """Return (kind, indices) of the operations of each pass; kind is `folded`, `layer` or `color`."""
    groups: list[tuple[str, list[int]]] = []
    fill_mode: str | None = None
    for index, operation in enumerate(operations):
        if operation.lowering == "identity":
            continue
        kind = operation.lowering if operation.lowering in ("folded", "layer") else "color"
        joins = bool(groups) and groups[-1][0] == kind != "layer"
        # An operation that never looks outside the image, such as a flip, joins a warp with any fill mode.
        if joins and kind == "folded" and None not in (fill_mode, operation.fill_mode):
            joins = fill_mode == operation.fill_mode
        if joins:
            groups[-1][1].append(index)
        else:
            groups.append((kind, [index]))
            fill_mode = None
        fill_mode = fill_mode or operation.fill_mode
    return groups


def _build_warp_pass(members: Sequence[BuiltOperation]) -> Pass:
    """Return one resampling by the product of the affine maps of all members."""
    # Crops alone look outside the image by rounding errors only.
    fill_mode = next((member.fill_mode for member in members if member.fill_mode), "nearest")

    # Three compiled functions: in one, XLA would compute each coordinate once per channel and neighbor, with
    # different rounding.
    coordinates, find_neighbors, interpolate = (
        tf.function(partial(function, fill_mode=fill_mode), jit_compile=True, autograph=False)
        for function in (source_coordinates, neighbors, resample)
    )

    def apply(images: tf.Tensor, maps: tf.Tensor) -> tf.Tensor:
        size = images.shape[1:3]
        x, y = (tf.ensure_shape(axis, [None, *size]) for axis in coordinates(maps, *size))
        return interpolate(images, *find_neighbors(x, y))

    def prepare(params: Sequence[Params]) -> tf.Tensor:
        maps = [member.maps(own) for member, own in zip(members, params, strict=True)]
        return tf.cast(reduce(product, maps), tf.float32)

    return Pass(prepare, apply)


def check_images_and_seeds(images: Any, seeds: Any, shape: Shape) -> tuple[tf.Tensor, tf.Tensor]:
    """Return images as float32 and their seeds `[batch, 2]` as int32.

    Raises:
        RequestError: If a shape differs, or the seeds are not integers.
    """
    images = check_tensor("images", images, shape)
    seeds = check_tensor("seeds", seeds, [None, 2], integer=True)
    if not images.shape[:1].is_compatible_with(seeds.shape[:1]):
        raise RequestError(
            f"Expected one seed per image. Received {images.shape[0]} images and {seeds.shape[0]} seeds."
        )
    return tf.cast(images, tf.float32), tf.cast(seeds, tf.int32)


def check_tensor(name: str, value: Any, shape: Shape, *, integer: bool = False) -> tf.Tensor:
    """Return a value as a tensor of a given shape.

    Raises:
        RequestError: If it is not an array of numbers, the shape differs, or `integer` is set and the values are not
            integers.
    """
    try:
        tensor = tf.convert_to_tensor(value)
    except (ValueError, TypeError, tf.errors.OpError):
        raise RequestError(
            f"{name}: expected an array of numbers. Received {describe_value(value)}."
        ) from None
    if tensor.dtype == tf.string:
        raise RequestError(f"{name}: expected numbers. Received {tensor.dtype.name}.")
    if not tensor.shape.is_compatible_with(shape):
        expected = ", ".join("batch" if size is None else str(size) for size in shape)
        raise RequestError(f"{name}: expected shape [{expected}]. Received {tensor.shape.as_list()}.")
    if integer and not tensor.dtype.is_integer:
        raise RequestError(f"{name}: expected integers (int32). Received {tensor.dtype.name}.")
    return tf.ensure_shape(tensor, shape)


def build_policy(
    operations: Sequence[Operation | Mapping[str, Any] | str],
    *,
    image_size_px: int | Size,
    channels: Literal[1, 3] = 3,
    exact: bool = False,
) -> Policy:
    """Build an augmentation policy.

    Args:
        operations: Operations in order, each a name, `(name, options)`, or `{"name": ..., option: value,
            ...}`. An empty list leaves images unchanged.
        image_size_px: Side length of the images, or (height, width).
        channels: 3, or 1 if every operation supports grayscale images.
        exact: Whether to run the layers one by one, as a reference: nothing is combined or compiled.

    Returns:
        A function `policy(images, seeds) -> images`. `images` is `[batch, height, width, channels]` float32
        in [0, 255], `seeds` is `[batch, 2]` int32. The result for an example is a function of its image and its
        seed: it does not depend on the batch, the process, or the number of parallel calls.

    Raises:
        Problems: If an operation or option is unknown, or a value is out of range.
        RequestError: If an operation requires color and `channels` is 1.

    Example:
        >>> policy = build_policy(["random_flip", {"name": "random_rotation", "max_deg": 15}],
        image_size_px=224)
        >>> augmented = policy(images, seeds)
    """
    return Policy(operations, image_size_px=image_size_px, channels=channels, exact=exact)


class Policy:
    """A function of images and seeds. Arguments and errors are those of `build_policy`.

    Attributes:
        lowering: (operation, lowering) in order. The lowering is `identity`, `folded`, `hsv`, `linear`,
            `compiled` or `layer`; with `exact` it is always `layer`.
        fingerprint: Text that identifies the policy: policies with equal text change images identically.
    """

    @checked
    def __init__(
        self,
        operations: Sequence[Any],
        *,
        image_size_px: AnyImageSize,
        channels: Literal[1, 3] = 3,
        exact: bool = False,
    ) -> None:
        operations = parse_operations(operations)
        size = as_size(image_size_px)
        self.image_size_px = size if channels == 3 else None
        self._shape = [None, *size, channels]
        self.fingerprint = repr((list(operations), plain_size(size), channels, exact))
        self._operations = [
            BuiltOperation(index, *operation, size, exact=exact) for index, operation in enumerate(operations)
        ]
        for operation in self._operations:
            if channels == 1 and operation.needs_color:
                raise RequestError(f"{operation.name} requires color images, but the images are grayscale.")
        self.lowering = [(operation.name, operation.lowering) for operation in self._operations]
        self._apply = compile_operations(self._operations)

    def __call__(self, images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """Return the augmented images; see `build_policy`."""
        images, seeds = check_images_and_seeds(images, seeds, self._shape)
        params = [
            operation.sample(StatelessGenerator(seeds, operation.index), images)
            for operation in self._operations
        ]
        return self._apply(images, params)

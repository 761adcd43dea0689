"""Layers that contain operations: AugMix, and some of several operations per image.

The AugMix layer of keras-cv 0.9.0 rotates by up to 9 radians instead of 30 degrees, never draws its ninth
operation, takes its weights from the global generator, and draws random numbers while it changes the images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import tensorflow as tf
from keras_cv.layers import VectorizedBaseImageAugmentationLayer

from kerastl.augment.operation import LARGEST_PIXEL, BuiltOperation, Params
from kerastl.augment.policy import compile_operations
from kerastl.augment.stateless_random import StatelessGenerator
from kerastl.image_size import Size
from kerastl.recipe import Operation

IMAGES_PER_LAUNCH = 8
"""Images that one XLA launch processes; a launch takes as long as changing a small image."""


class Container(VectorizedBaseImageAugmentationLayer):
    """Base class of layers that contain operations.

    A subclass builds `_run`, a function from images and their sampled parameters to the changed images. Its
    method `restrict(transformations, chosen)` restricts the sampled parameters to the images that are
    `chosen`, `[batch]` bool.

    Args:
        operations: The operations.
        kwargs: `dtype` and `seed`, for keras-cv.

    Attributes:
        members: The built operations.
        compiles: Whether XLA compiles the whole layer.
    """

    compiles = False

    def __init__(self, operations: Sequence[Operation], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._nested = tuple((operation.name, operation.options) for operation in operations)

    def build_members(self, image_size_px: Size, *, exact: bool) -> None:
        """Build the operations and the functions that change images, before anything is sampled.

        Args:
            image_size_px: (height, width) of the images.
            exact: Whether to run layer by layer, without combining or compiling operations.
        """
        self.members = tuple(
            BuiltOperation(index, *operation, image_size_px, exact=exact)
            for index, operation in enumerate(self._nested)
        )

    def augment_images(self, images: tf.Tensor, transformations: Any, **_: Any) -> tf.Tensor:
        """Return the changed images."""
        return self._run(images, transformations)


def image_by_image(
    change: Callable[[tf.Tensor, Any], tf.Tensor], *, compiles: bool
) -> Callable[[tf.Tensor, Any], tf.Tensor]:
    """Return a function that changes each image of a batch by itself.

    Args:
        change: Function `(image, params) -> image` of an image `[1, height, width, channels]` float32 and its
            row of the parameters.
        compiles: Whether XLA compiles it. It is then compiled once, for `IMAGES_PER_LAUNCH` images, for every
            batch size: the last image is repeated to fill up.

    Returns:
        `run(images, params) -> images`.
    """

    def loop(images: tf.Tensor, params: Any) -> tf.Tensor:
        return tf.map_fn(
            lambda row: change(row[0][None], row[1])[0],
            (images, params),
            fn_output_signature=tf.TensorSpec(images.shape[1:], tf.float32),
        )

    compiled_loop = tf.function(loop, jit_compile=True, autograph=False)

    def in_parts(images: tf.Tensor, params: Any) -> tf.Tensor:
        count, shape = tf.shape(images)[0], images.shape[1:]
        parts = (count + IMAGES_PER_LAUNCH - 1) // IMAGES_PER_LAUNCH
        indices = tf.reshape(tf.range(parts * IMAGES_PER_LAUNCH), [parts, IMAGES_PER_LAUNCH])

        def change_part(rows: tf.Tensor) -> tf.Tensor:
            part = tf.nest.map_structure(lambda tensor: tf.gather(tensor, rows), (images, params))
            return tf.ensure_shape(compiled_loop(*part), [IMAGES_PER_LAUNCH, *shape])

        spec = tf.TensorSpec([IMAGES_PER_LAUNCH, *shape], tf.float32)
        changed = tf.map_fn(change_part, tf.minimum(indices, count - 1), fn_output_signature=spec)
        return tf.reshape(changed, [-1, *shape])[:count]

    run = tf.function(in_parts if compiles else loop, autograph=False, reduce_retracing=True)
    return lambda images, params: tf.ensure_shape(run(images, params), images.shape)


class SomeOf(Container):
    """Apply several randomly chosen operations, all equally likely, to each image.

    Args:
        operations: The operations to choose from; names are unique.
        num_operations: Number of operations per image, drawn with replacement.
        include_identity: Whether the identity is one more choice.
        kwargs: `dtype` and `seed`, for keras-cv.
    """

    def __init__(
        self,
        operations: Sequence[Operation],
        *,
        num_operations: int = 1,
        include_identity: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(operations, **kwargs)
        self.num_operations = num_operations
        self.include_identity = include_identity

    def build_members(self, image_size_px: Size, *, exact: bool) -> None:
        """Build the operations, and the functions that change images."""
        super().build_members(image_size_px, exact=exact)
        self._compiled = tuple(compile_operations([member]) for member in self.members)
        self._run = image_by_image(self.change, compiles=all(member.in_xla for member in self.members))

    def get_random_transformation_batch(self, batch_size: Any, images: Any = None, **_: Any) -> Params:
        """Sample the choices of each image.

        Choice k draws from `child(k)` of the generator, and operation m of that choice from `child(m)` of that.
        Operations that require color are not chosen for grayscale images.

        Returns:
            `which`, `[batch, num_operations]` int32, 0 for the identity and m + 1 for operation m; `params`,
            the prepared parameters of each operation, `[batch, num_operations, ...]`.
        """
        is_gray, rows = images.shape[-1] == 1, batch_size * self.num_operations
        generator = self._random_generator.children(self.num_operations)
        eligible = [
            index for index, member in enumerate(self.members) if not (is_gray and member.needs_color)
        ]
        choices = [0] * self.include_identity + [index + 1 for index in eligible]
        position = tf.cast(generator.uniform([rows]) * len(choices), tf.int32)
        which = tf.gather(tf.constant(choices), tf.minimum(position, len(choices) - 1))
        params = [
            self._compiled[index].prepare([member.sample(generator.child(index), images, rows)])
            if index in eligible
            else []
            for index, member in enumerate(self.members)
        ]

        def by_image(tensor: tf.Tensor) -> tf.Tensor:
            by_choice = tf.reshape(tensor, [self.num_operations, batch_size, *tensor.shape[1:]])
            return tf.transpose(by_choice, [1, 0, *range(2, by_choice.shape.rank)])

        return tf.nest.map_structure(by_image, {"which": which, "params": params})

    def restrict(self, transformations: Params, chosen: tf.Tensor) -> Params:
        """Return the sampled choices with the identity for images that are not `chosen`, `[batch]` bool."""
        return {**transformations, "which": tf.where(chosen[:, None], transformations["which"], 0)}

    def change(self, image: tf.Tensor, params: Params) -> tf.Tensor:
        """Change an image `[1, height, width, channels]` float32, given its row of the sampled parameters."""
        return self.apply_choices(image, params, 0, self.num_operations)

    def apply_choices(self, image: tf.Tensor, params: Params, first: Any, count: int) -> tf.Tensor:
        """Apply consecutive choices to one image.

        Args:
            image: `[1, height, width, channels]` float32.
            params: The image's row of the sampled parameters.
            first: Index of the first choice, scalar int32.
            count: Number of choices.
        """

        def step(index: tf.Tensor, changed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return index + 1, self._apply_one(changed, params, first + index)

        # A loop, because XLA would compile every operation once per unrolled step.
        _, changed = tf.while_loop(lambda index, _: index < count, step, (tf.constant(0), image))
        return tf.ensure_shape(changed, image.shape)

    def _apply_one(self, image: tf.Tensor, params: Params, index: tf.Tensor) -> tf.Tensor:
        def apply(member: int) -> tf.Tensor:
            own = tf.nest.map_structure(lambda tensor: tensor[index][None], params["params"][member])
            return self._compiled[member].apply(image, own)

        identity = partial(tf.identity, image)
        # An operation that is not eligible has no parameters and is never chosen.
        branches = [
            partial(apply, member) if own else identity for member, own in enumerate(params["params"])
        ]
        return tf.switch_case(params["which"][index], [identity, *branches])


def flat_dirichlet(generator: StatelessGenerator, batch_size: Any, count: int) -> tf.Tensor:
    """Sample from Dirichlet(1, ..., 1): the gaps between sorted uniform numbers.

    This avoids logarithms, whose rounding in TensorFlow depends on the batch size.

    Args:
        generator: The source of random numbers.
        batch_size: Scalar int32.
        count: Number of components.

    Returns:
        `[batch, count]` float32 in [0, 1]; rows sum to 1.
    """
    if count == 1:
        return tf.ones([batch_size, 1])
    cuts = tf.sort(generator.uniform([batch_size, count - 1]), axis=1)
    edges = tf.pad(tf.pad(cuts, [[0, 0], [1, 0]]), [[0, 0], [0, 1]], constant_values=1.0)
    return edges[:, 1:] - edges[:, :-1]


class AugMix(SomeOf):
    """Blend each image with the results of several chains of operations.

    Args:
        operations: The operations that the chains are drawn from.
        options: Options of `aug_mix`.
        kwargs: `dtype` and `seed`, for keras-cv.
    """

    def __init__(self, operations: Sequence[Operation], options: Any, **kwargs: Any) -> None:
        num_operations = options.num_chains * options.max_depth
        super().__init__(operations, num_operations=num_operations, **kwargs)
        self.num_chains, self.max_depth = options.num_chains, options.max_depth

    def get_random_transformation_batch(self, batch_size: Any, images: Any = None, **_: Any) -> Params:
        """Sample the chains.

        Returns:
            `which` and `params` for the operations of all chains, as in `SomeOf`, with the identity beyond
            the end of a chain; `weights`, `[batch, num_chains]` float32. The original image has the remaining
            weight.
        """
        generator, shape = self._random_generator, [batch_size, self.num_chains]
        depths = 1.0 + tf.floor(generator.uniform(shape) * self.max_depth)
        original_weight = generator.uniform([batch_size, 1])
        weights = (1.0 - original_weight) * flat_dirichlet(generator, batch_size, self.num_chains)
        choices = super().get_random_transformation_batch(batch_size, images)
        in_chain = tf.range(self.max_depth, dtype=tf.float32) < depths[:, :, None]
        which = tf.where(tf.reshape(in_chain, [-1, self.num_operations]), choices["which"], 0)
        return {**choices, "which": which, "weights": weights}

    def change(self, image: tf.Tensor, params: Params) -> tf.Tensor:
        """Blend an image with its chains."""

        def add_chain(chain: tf.Tensor, blend: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            first = chain * self.max_depth
            result = self.apply_choices(image, params, first, self.max_depth)
            # Written as a difference, so that pixels that no chain changes keep their bytes.
            return chain + 1, blend + params["weights"][chain] * (result - image)

        start = (tf.constant(0), image)
        _, blend = tf.while_loop(lambda chain, _: chain < self.num_chains, add_chain, start)
        # Rounding may exceed the range.
        return tf.clip_by_value(blend, 0.0, LARGEST_PIXEL)


class SequentialOperations(Container):
    """Apply all operations in order, combined and compiled like a policy of their own.

    The whole batch goes through one compiled function in which images that are not chosen keep their bytes:
    this is faster than one function call per chosen image.
    """

    def build_members(self, image_size_px: Size, *, exact: bool) -> None:
        """Build the operations, and the function that changes images."""
        super().build_members(image_size_px, exact=exact)
        self._run = compile_operations(self.members)
        self.compiles = all(member.in_xla for member in self.members)

    def get_random_transformation_batch(self, batch_size: Any, images: Any = None, **_: Any) -> list[Params]:
        """Return the parameters of each operation; operation k draws from `child(k)`."""
        generator = self._random_generator
        return [
            member.sample(generator.child(index), images, batch_size)
            for index, member in enumerate(self.members)
        ]

    def restrict(self, transformations: list[Params], chosen: tf.Tensor) -> list[Params]:
        """Return the parameters restricted to the images that are `chosen`, `[batch]` bool."""
        return [
            member.restrict(params, chosen)
            for member, params in zip(self.members, transformations, strict=True)
        ]

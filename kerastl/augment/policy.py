"""One door to augmentation: a list of operations in, a function of images and seeds out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from kerastl import registry
from kerastl.augment.draws import Draws, SeededFactor
from kerastl.augment.named import Operation, named
from kerastl.errors import RequestError

Policy = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
LARGEST_PIXEL = 255.0


def build_policy(
    operations: Sequence[Operation | Mapping[str, Any]],
    *,
    image_size_px: int,
    channels: int = 3,
) -> Policy:
    """Return a function that changes pictures, each by its own seed.

    Args:
        operations: in their order: `(name, options)`, or `{"name": ..., option: value, ...}`; none at all
            is allowed and changes nothing.
        image_size_px: side of the square pictures.
        channels: 3, or 1 where every operation works on grey.

    Returns:
        `policy(images, seeds) -> images`: images `[batch, size, size, channels]` float32 in [0, 255];
        seeds `[batch, 2]` int32. An example's bytes depend on its picture and its seed alone: not on its
        batch, the process, or the number of parallel calls. Labels never travel through it.

    Raises:
        RequestError: no such operation or option, a value out of bounds, or an operation that needs
            colour for grey pictures.
    """
    steps = [_Step(place, *operation) for place, operation in enumerate(named(operations))]
    coloured = [step.name for step in steps if channels == 1 and step.needs_colour]
    if coloured:
        raise RequestError(f"{coloured[0]} needs colour pictures; these are grey.")

    def policy(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        images = tf.ensure_shape(images, [None, image_size_px, image_size_px, channels])
        images = tf.cast(images, tf.float32)
        for step in steps:
            images = step(images, seeds)
        return images

    return policy


class _Step:
    """One operation: a keras-cv layer whose every random number is ours."""

    def __init__(self, place: int, name: str, options: Any) -> None:
        # keras-cv takes seconds to import: a policy without operations does not wait for it.
        from keras_cv.core import UniformFactorSampler

        module = registry.module("operation", name)
        self.name = name
        self.needs_colour = bool(getattr(module, "NEEDS_COLOUR", False))
        self._place = place
        self._probability = float(options.apply_probability)
        self._identity = module.is_identity(options) or self._probability == 0.0
        # float32 whatever the global policy: half floats round pixels, and labels never come here.
        # The seed is never used: without one keras-cv asks for the global generator, which
        # TensorFlow refuses where operations must be deterministic.
        self._layer = module.build_layer(options, dtype="float32", seed=1)
        self._factors = {
            attribute: value
            for attribute, value in vars(self._layer).items()
            if isinstance(value, UniformFactorSampler)
        }

    def __call__(self, images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        if self._identity:
            return images
        draws = Draws(seeds, self._place)
        self._layer._random_generator = draws
        for attribute, factor in self._factors.items():
            setattr(self._layer, attribute, SeededFactor(factor.lower, factor.upper, draws))
        batch_size = tf.shape(images)[0]
        transformations = self._layer.get_random_transformation_batch(batch_size, images=images)
        changed = self._layer.augment_images(images, transformations=transformations)
        changed = tf.clip_by_value(changed, 0.0, LARGEST_PIXEL)
        if self._probability == 1.0:
            return changed
        chosen = draws.uniform([batch_size, 1, 1, 1]) < self._probability
        return tf.where(chosen, changed, images)

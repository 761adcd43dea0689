"""Mixing of each image of a batch, and its label, with another image of the batch.

The partner of an example and its weight are functions of the seeds in the batch, not of their order. The
examples of a batch are a function of (seed, epoch, step, batch size), so that runs are reproducible and can
be resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from kerastl import registry
from kerastl.augment.operation_options import Operation, parse_mixings
from kerastl.augment.policy import check_images_and_seeds, check_tensor
from kerastl.augment.stateless_random import FLOAT32_STEPS, StatelessGenerator
from kerastl.errors import RequestError
from kerastl.image_size import Size, as_size

Mixer = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
FIRST_INDEX = 2**20
"""Generator index of the partners, followed by those of the mixings; far from those of a policy's operations."""


def build_mixing(
    operations: Sequence[Operation | Mapping[str, Any] | str],
    *,
    image_size_px: int | Size,
    channels: int = 3,
    num_classes: int,
) -> Mixer:
    """Build a function that mixes the images of a batch and makes their labels one-hot.

    Args:
        operations: Mixings, each a name, `(name, options)`, or `{"name": ..., option: value, ...}`. Each
            example gets one of them, all equally likely. An empty list only makes labels one-hot.
        image_size_px: Side length of the images, or (height, width).
        channels: 3 or 1.
        num_classes: Number of classes, at least 2.

    Returns:
        A function `mixing(images, labels, seeds) -> (images, one_hot)`. Images are `[batch, height, width,
        channels]` float32 in [0, 255], labels `[batch]` int32, seeds `[batch, 2]` int32 without repetition,
        and one_hot is `[batch, classes]` float32 with rows that sum to 1. Partners form one random cycle over
        the batch, so that no example of a batch of two or more is its own partner. An invalid label, such as
        -1 for unlabeled, raises `tf.errors.InvalidArgumentError`.

    Raises:
        Problems: If a mixing or option is unknown, or a value is out of range.
        RequestError: If there are fewer than two classes.
    """
    if num_classes < 2:
        raise RequestError(f"Mixing requires at least two classes. Received {num_classes}.")
    size = as_size(image_size_px)
    mixings = [_Mixing(index, *mixing, size) for index, mixing in enumerate(parse_mixings(operations))]

    def mix(images: tf.Tensor, labels: tf.Tensor, seeds: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images, seeds = check_images_and_seeds(images, seeds, [None, *size, channels])
        one_hot = _one_hot(check_tensor("labels", labels, images.shape[:1], integer=True), num_classes)
        if all(mixing.is_identity for mixing in mixings):
            return images, one_hot
        generator = StatelessGenerator(seeds, FIRST_INDEX)
        partners = _partners(generator, tf.shape(images)[0])
        weights, label_weights = _sample_weights(mixings, generator, seeds, partners)
        mixed = (1.0 - weights) * images + weights * tf.gather(images, partners)
        # Rounding may exceed 255.
        mixed = tf.clip_by_value(mixed, 0.0, 255.0)
        return mixed, (1.0 - label_weights) * one_hot + label_weights * tf.gather(one_hot, partners)

    return mix


def _one_hot(labels: tf.Tensor, num_classes: int) -> tf.Tensor:
    """Return `[batch, classes]` float32; invalid labels raise an error, because their rows would be zero."""
    labels = tf.cast(labels, tf.int64)
    message = f"Mixing requires labels from 0 to {num_classes - 1} (-1 is unlabeled)."
    with tf.control_dependencies(
        [
            tf.debugging.assert_non_negative(labels, message),
            tf.debugging.assert_less(labels, tf.constant(num_classes, tf.int64), message),
        ]
    ):
        return tf.one_hot(labels, num_classes, dtype=tf.float32)


def _partners(generator: StatelessGenerator, count: tf.Tensor) -> tf.Tensor:
    """Return the index of each example's partner, `[batch]` int32: the next one in a random cycle."""
    # Two numbers of 24 bits: with one, 1 in 30,000 batches of 32 would have a tie.
    high, low = tf.unstack(tf.cast(generator.uniform([count, 2]) * FLOAT32_STEPS, tf.int64), axis=1)
    cycle = tf.argsort(high * FLOAT32_STEPS + low, stable=True)
    return tf.scatter_nd(cycle[:, None], tf.roll(cycle, -1, axis=0), [count])


def _sample_weights(
    mixings: Sequence[_Mixing], generator: StatelessGenerator, seeds: tf.Tensor, partners: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the partner's weight for each pixel, `[batch, height or 1, width or 1, 1]`, and label, `[batch, 1]`."""
    count = tf.shape(partners)[0]
    has_partner = partners != tf.range(count)
    choice = tf.floor(generator.uniform([count]) * len(mixings))
    weights, label_weights = tf.zeros([count, 1, 1, 1]), tf.zeros([count, 1])
    for index, mixing in enumerate(mixings):
        if mixing.is_identity:
            continue
        own_weights, own_label_weights = mixing.sample(seeds, count)
        chosen = (choice == index) & has_partner
        weights = tf.where(chosen[:, None, None, None], own_weights, weights)
        label_weights = tf.where(chosen[:, None], own_label_weights, label_weights)
    return weights, label_weights


class _Mixing:
    """One mixing with its options."""

    def __init__(self, index: int, name: str, options: Any, image_size_px: Size) -> None:
        module = registry.module("mixing", name)
        self._index = FIRST_INDEX + 1 + index
        self._probability = float(options.apply_probability)
        self.is_identity = options.alpha == 0 or self._probability == 0.0
        if not self.is_identity:
            self._weights = module.build_weights(options, image_size_px=image_size_px)

    def sample(self, seeds: tf.Tensor, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the partner's weights for the pixels and for the labels, `[batch, 1]`."""
        generator = StatelessGenerator(seeds, self._index)
        weights = self._weights(generator, count)
        if self._probability < 1.0:
            chosen = generator.uniform([count, 1, 1, 1]) < self._probability
            weights = tf.where(chosen, weights, tf.zeros_like(weights))
        # Integers up to 2**24, or 4096 pixels squared, are exact in float32, and so is their sum.
        pixels = weights.shape[1] * weights.shape[2]
        return weights, tf.reduce_sum(weights, [1, 2]) / tf.cast(pixels, tf.float32)

"""The mixing stage: each image of a batch, and its label, is mixed with another one of the batch.

Every other operation changes an image by its own seed alone. Mixing depends on who stands in the batch, too: the
partner of an example, and how much it gives, are functions of the seeds in the batch, not of their order. Who
stands in a batch is a function of (seed, epoch, step, batch size), so that a run repeats and resumes to the byte.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from kerastl import registry
from kerastl.augment.parse_operations import Operation, parse_mixings
from kerastl.augment.policy import check_tensor, check_images_and_seeds
from kerastl.augment.stateless_random import FLOAT32_STEPS, StatelessGenerator
from kerastl.errors import RequestError

Mixer = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
FIRST_PLACE = 2**20
"""Place of the stage's own draws, its mixings behind it: far from those of a policy's operations."""


def build_mixing(
    operations: Sequence[Operation | Mapping[str, Any] | str],
    *,
    image_size_px: int,
    channels: int = 3,
    num_classes: int,
) -> Mixer:
    """Return a function that mixes the images of a batch, and makes their labels one-hot.

    Args:
        operations: `(name, options)`, or `{"name": ..., option: value, ...}`. Of several, each example gets
            exactly one, all equally often, chosen by its seed; none at all only makes labels one-hot.
        image_size_px: side of the square images.
        channels: 3 or 1.
        num_classes: of the labels.

    Returns:
        `mixing(images, labels, seeds) -> (images, one_hot)`: images `[batch, size, size, channels]` float32 in
        [0, 255]; labels `[batch]` int32, class numbers; seeds `[batch, 2]` int32, no two alike; one_hot `[batch,
        classes]` float32, rows that sum to 1. Partners form one ring over the batch, in random order: everybody has one, gives to
        one, and nobody is its own; an example that is alone stays as it is. A label that is no class
        (-1: unlabeled) raises `tf.errors.InvalidArgumentError` when it is met.

    Raises:
        RequestError: no such mixing or option, a value out of bounds, or fewer than two classes.
    """
    if num_classes < 2:
        raise RequestError(f"Mixing needs two classes or more, got {num_classes}.")
    steps = [_Step(place, *one, image_size_px) for place, one in enumerate(parse_mixings(operations))]

    def mixing(images: tf.Tensor, labels: tf.Tensor, seeds: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images, seeds = check_images_and_seeds(images, seeds, [None, image_size_px, image_size_px, channels])
        one_hot = _one_hot(check_tensor("labels", labels, images.shape[:1], whole=True), num_classes)
        if all(step.identity for step in steps):
            return images, one_hot
        generator = StatelessGenerator(seeds, FIRST_PLACE)
        partners = _partners(generator, tf.shape(images)[0])
        share, weight = _shares(steps, generator, seeds, partners)
        mixed = (1.0 - share) * images + share * tf.gather(images, partners)
        # A rounding can carry the sum of two shares of 255 above it.
        mixed = tf.clip_by_value(mixed, 0.0, 255.0)
        return mixed, (1.0 - weight) * one_hot + weight * tf.gather(one_hot, partners)

    return mixing


def _one_hot(labels: tf.Tensor, num_classes: int) -> tf.Tensor:
    """Return `[batch, classes]` float32; a label that is no class is refused, as its row would be zero."""
    labels = tf.cast(labels, tf.int64)
    says = f"Mixing needs the class of every image: 0 to {num_classes - 1}; -1 is unlabeled."
    with tf.control_dependencies(
        [
            tf.debugging.assert_non_negative(labels, says),
            tf.debugging.assert_less(labels, tf.constant(num_classes, tf.int64), says),
        ]
    ):
        return tf.one_hot(labels, num_classes, dtype=tf.float32)


def _partners(generator: StatelessGenerator, count: tf.Tensor) -> tf.Tensor:
    """Return the place of each example's partner: `[batch]` int32, the next in a ring of random order."""
    # Two draws of 24 bits: one alone would hold two equal numbers in one batch of 32 in 30,000.
    high, low = tf.unstack(tf.cast(generator.uniform([count, 2]) * FLOAT32_STEPS, tf.int64), axis=1)
    ring = tf.argsort(high * FLOAT32_STEPS + low, stable=True)
    return tf.scatter_nd(ring[:, None], tf.roll(ring, -1, axis=0), [count])


def _shares(
    steps: Sequence[_Step], generator: StatelessGenerator, seeds: tf.Tensor, partners: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the partner's share of each pixel, `[batch, size or 1, size or 1, 1]`, and of the label, `[batch, 1]`."""
    count = tf.shape(partners)[0]
    alone = partners == tf.range(count)
    choice = tf.zeros([count])
    if len(steps) > 1:
        choice = tf.floor(generator.uniform([count]) * len(steps))
    share, weight = tf.zeros([count, 1, 1, 1]), tf.zeros([count, 1])
    for place, step in enumerate(steps):
        if step.identity:
            continue
        own_share, own_weight = step(seeds, count)
        taken = (choice == place) & ~alone
        share = tf.where(taken[:, None, None, None], own_share, share)
        weight = tf.where(taken[:, None], own_weight, weight)
    return share, weight


class _Step:
    """One mixing, with its place among all."""

    def __init__(self, place: int, name: str, options: Any, image_size_px: int) -> None:
        module = registry.module("mixing", name)
        self._place = FIRST_PLACE + 1 + place
        self._probability = float(options.apply_probability)
        self.identity = bool(module.is_identity(options)) or self._probability == 0.0
        if not self.identity:
            self._share = module.build_share(options, image_size_px=image_size_px)

    def __call__(self, seeds: tf.Tensor, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the partner's share of each pixel, and of all pixels together: `[batch, 1]`."""
        generator = StatelessGenerator(seeds, self._place)
        share = self._share(generator, count)
        if self._probability < 1.0:
            chosen = generator.uniform([count, 1, 1, 1]) < self._probability
            share = tf.where(chosen, share, tf.zeros_like(share))
        # Whole numbers up to 2**24, 4096 pixels squared, are exact in float32, and so is their sum.
        pixels = share.shape[1] * share.shape[2]
        return share, tf.reduce_sum(share, [1, 2]) / tf.cast(pixels, tf.float32)

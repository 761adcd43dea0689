"""The step of the methods that give source pictures the style of target pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from kerastl.adaptation.chance import step_seeds
from kerastl.adaptation.features import features_and_logits
from kerastl.adaptation.step import AdaptationStep
from kerastl.augment.stateless_random import Draws
from kerastl.training.step import Batch

Style = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""`(images, styles) -> images`, all `[batch, h, w, 3]` float32 in [0, 255]."""


class Restyled(AdaptationStep):
    """Classification of source pictures in the style of the target pictures of the same step.

    Both streams have an order of their own, so that the source picture in place k of its batch meets another target picture in
    each epoch: that in place k of the target's batch, counted round where that batch is smaller.

    Args:
        style: gives the first pictures the style of the second.
        share: probability, 0 to 1, that a source picture is restyled; the others stay as they are.
        beside: the pictures as they are are learnt, too, in a pass of their own; both count the same.
        given: as in `AdaptationStep`.
    """

    changes = "source"

    def __init__(self, style: Style, *, share: float, beside: bool, **given: Any) -> None:
        super().__init__(**given)
        self._style, self._share, self._beside = style, share, beside

    def losses(
        self, model: keras.Model, batches: Mapping[str, Batch], progress: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Return `loss` and `accuracy` of the restyled pictures; with `beside`, the mean with those of the plain ones."""
        images, labels, indices = batches["source"]
        restyled, told = self.changed(batches, progress), []
        for pictures in (restyled, images) if self._beside else (restyled,):
            _, logits = features_and_logits(model, pictures, training=True)
            told.append(self.classified((pictures, labels, indices), logits, progress))
        return {name: tf.add_n([one[name] for one in told]) / len(told) for name in told[0]}

    def changed(self, batches: Mapping[str, Batch], progress: tf.Tensor) -> tf.Tensor:
        """Return the source's pictures as they are learnt: `[batch, h, w, 3]` float32 in [0, 255]."""
        images, _, _ = batches["source"]
        styles = paired(batches["target"][0], tf.shape(images)[0])
        return self._by_chance(self._style(images, styles), batches["source"], progress)

    def _by_chance(self, restyled: tf.Tensor, source: Batch, progress: tf.Tensor) -> tf.Tensor:
        if self._share >= 1:
            return restyled
        images, _, indices = source
        drawn = Draws(step_seeds(self.seed, progress, indices), 0).uniform([None])
        return tf.where((drawn < self._share)[:, None, None, None], restyled, images)


def paired(targets: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Return the rows of `targets` in their order, begun again until there are `count`."""
    return tf.gather(targets, tf.range(count) % tf.shape(targets)[0])

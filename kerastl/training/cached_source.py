"""A source whose batches hold what a frozen trunk made of the pictures, in place of the pictures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import tensorflow as tf

from kerastl.data import ImageDataset
from kerastl.training.activations import Activations


class CachedSource:
    """Batches of activations, in the order of the pictures' own source.

    Args:
        source: the pictures; they are not opened any more.
        activations: of those pictures; epoch `e` sees view `e` modulo their number.

    Attributes:
        num_examples, steps_per_epoch, class_names, labels: of the pictures.
        mixes, placement: batches are never mixed, and need nothing on the device.
    """

    mixes = False
    placement: Literal["host"] = "host"

    def __init__(self, source: ImageDataset, activations: Activations) -> None:
        self._source, self._activations = source, activations
        self.num_examples, self.steps_per_epoch = source.num_examples, source.steps_per_epoch
        self.class_names, self.labels = source.class_names, source.labels

    def indexed_batches(
        self, epoch: int, first_step: int = 0, shard: tuple[int, int] = (0, 1)
    ) -> Iterator[tuple[Any, tf.Tensor, tf.Tensor]]:
        """Yield one epoch, as `ImageDataset.indexed_batches` does.

        Returns:
            Elements (activations, labels `[b]` int32, indices `[b]` int64); activations are a `[b, ...]` float32
            tensor, or a list of them where several leave the trunk.
        """
        view = epoch % self._source.views
        for indices in self._source.steps(epoch, first_step, shard):
            tensors = [tf.constant(rows) for rows in self._activations.rows(view, indices)]
            activations = tensors[0] if len(tensors) == 1 else tensors
            yield activations, tf.constant(self.labels[indices]), tf.constant(indices)

    def explain(self, error: Exception) -> Exception:
        """Return the error itself: no picture is read that could have broken."""
        return error

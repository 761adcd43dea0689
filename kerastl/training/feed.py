"""Batches of an epoch, dealt to the replicas of a strategy; a file that breaks is named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from kerastl.training.learner import Source
from kerastl.training.step import Batch


def read_batches(source: Source, epoch: int, shard: tuple[int, int] = (0, 1)) -> Iterator[Batch]:
    """Yield the batches of an epoch, augmented and mixed.

    Raises:
        RunFailed: a file that could be read when the run began can no longer be; the text names it.
    """
    yield from _named_faults(source, source.batches(epoch, shard=shard))


def _named_faults(source: Source, batches: Iterable[Batch]) -> Iterator[Batch]:
    try:
        yield from batches
    except tf.errors.OpError as error:
        raise source.explain(error) from error


def _for_the_step(source: Source, epoch: int, shard: tuple[int, int] = (0, 1)) -> Iterator[Batch]:
    """Yield batches as the training step takes them: it finishes by itself what is placed on the device."""
    if source.placement == "host":
        return read_batches(source, epoch, shard)
    return _named_faults(source, source.plain_batches(epoch, shard=shard))


def batches_of(source: Source, epoch: int, strategy: tf.distribute.Strategy) -> Any:
    """Yield `(batch, share, count)` of an epoch, a batch split over the replicas of a strategy.

    A last batch of fewer pictures than replicas is left out: no statistics can be made of no picture.
    """
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        one = tf.constant(1.0)
        for batch in _for_the_step(source, epoch):
            yield batch, one, int(batch[1].shape[0])
        return
    parts = [_for_the_step(source, epoch, (index, replicas)) for index in range(replicas)]
    for batch in zip(*parts, strict=True):
        counts = [int(part[1].shape[0]) for part in batch]
        if 0 in counts:
            continue
        yield (
            _per_replica(strategy, batch),
            _per_replica(
                strategy, [tf.constant(count / sum(counts), tf.float32) for count in counts]
            ),
            sum(counts),
        )


def _per_replica(strategy: tf.distribute.Strategy, values: Sequence[Any]) -> Any:
    return strategy.experimental_distribute_values_from_function(
        lambda context: values[context.replica_id_in_sync_group]
    )

"""Batches of an epoch, one of each stream, dealt to the replicas of a strategy; a file that breaks is named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from kerastl.training.learner import Source
from kerastl.training.step import Batch


class Fed(NamedTuple):
    """What one step takes.

    Args:
        batches: a batch of each stream, or one a replica.
        share: the part of the first stream's whole batch that a replica holds: float32, 1 for a single device.
        epochs: the epoch of each stream's own source that its batch is of: scalars, int64.
        num_pictures: of the first stream.
    """

    batches: dict[str, Any]
    share: Any
    epochs: dict[str, tf.Tensor]
    num_pictures: int


def read_batches(
    source: Source, epoch: int, shard: tuple[int, int] = (0, 1), first_step: int = 0
) -> Iterator[Batch]:
    """Yield the batches of an epoch from `first_step` on, augmented and mixed.

    Raises:
        RunFailed: a file that could be read when the run began can no longer be; the text names it.
    """
    yield from _named_faults(source, source.indexed_batches(epoch, first_step, shard))


def _named_faults(source: Source, batches: Iterable[Batch]) -> Iterator[Batch]:
    try:
        yield from batches
    except tf.errors.OpError as error:
        raise source.explain(error) from error


def _for_the_step(
    source: Source, epoch: int, shard: tuple[int, int], first_step: int = 0
) -> Iterator[Batch]:
    """Yield batches as the training step takes them: it finishes by itself what is placed on the device."""
    if source.placement == "host":
        return read_batches(source, epoch, shard, first_step)
    return _named_faults(source, source.plain_batches(epoch, first_step, shard))


def batches_of(
    streams: Mapping[str, Source], epoch: int, strategy: tf.distribute.Strategy, done: int = 0
) -> Iterator[Fed]:
    """Yield what each step of an epoch takes, split over the replicas of a strategy.

    The first stream goes once through its `epoch`. The others go round: step k of the phase takes batch `k % steps` of
    their epoch `k // steps`, so that what a step sees follows from its number alone.

    A step is left out where a stream has fewer pictures than there are replicas: no statistics can be made of no
    picture.

    Args:
        streams: by name; none is empty.
        epoch: of the first stream.
        strategy: whose replicas are fed.
        done: steps of the phase before this epoch.
    """
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        one = tf.constant(1.0)
        for batches, epochs in _side_by_side(streams, epoch, done, (0, 1)):
            yield Fed(batches, one, epochs, _rows(next(iter(batches.values()))))
        return
    parts = [_side_by_side(streams, epoch, done, (index, replicas)) for index in range(replicas)]
    for step in zip(*parts, strict=True):
        rows = {name: [_rows(batches[name]) for batches, _ in step] for name in streams}
        if any(0 in one for one in rows.values()):
            continue
        counts = next(iter(rows.values()))
        whole = sum(counts)
        yield Fed(
            {name: _per_replica(strategy, [one[name] for one, _ in step]) for name in streams},
            _per_replica(strategy, [tf.constant(one / whole, tf.float32) for one in counts]),
            step[0][1],
            whole,
        )


def _rows(batch: Batch) -> int:
    return int(batch[1].shape[0])


def _side_by_side(
    streams: Mapping[str, Source], epoch: int, done: int, shard: tuple[int, int]
) -> Iterator[tuple[dict[str, Batch], dict[str, tf.Tensor]]]:
    """Yield the batches of each step, and the epochs that they are of."""
    first, *others = streams
    number = tf.constant(epoch, tf.int64)
    rounds = {name: _round_and_round(streams[name], done, shard) for name in others}
    for batch in _for_the_step(streams[first], epoch, shard):
        batches, epochs = {first: batch}, {first: number}
        for name, endless in rounds.items():
            batches[name], epochs[name] = next(endless)
        yield batches, epochs


def _round_and_round(
    source: Source, step: int, shard: tuple[int, int]
) -> Iterator[tuple[Batch, tf.Tensor]]:
    """Yield batches, and the epochs that they are of, without end, from a step of the phase on."""
    epoch, first = divmod(step, source.steps_per_epoch)
    while True:
        number = tf.constant(epoch, tf.int64)
        for batch in _for_the_step(source, epoch, shard, first):
            yield batch, number
        epoch, first = epoch + 1, 0


def _per_replica(strategy: tf.distribute.Strategy, values: Sequence[Any]) -> Any:
    return strategy.experimental_distribute_values_from_function(
        lambda context: values[context.replica_id_in_sync_group]
    )

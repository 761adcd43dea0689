"""One update of the weights, on one device or on every replica of a strategy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from kerastl.training.optimizer import Pull
from kerastl.training.phase import StepPrecision, computing_in_precision
from kerastl.training.step import Batch, Step, signature_of
from kerastl.training.trunk import Source

Epochs = Mapping[str, tf.Tensor]
Update = Callable[[Mapping[str, Batch], tf.Tensor, tf.Tensor, Epochs], dict[str, tf.Tensor]]


def build_update(
    model: keras.Model,
    optimizer: keras.Optimizer,
    step: Step,
    variables: Sequence[keras.Variable],
    strategy: tf.distribute.Strategy,
    sources: Mapping[str, Source],
    pull: Pull | None = None,
    precision: StepPrecision = "float32",
) -> Update:
    """Return one traced function `(batches, share, progress, epochs) -> {name: scalar}`.

    `batches` maps a stream's name to a `Batch`, or to one a replica; `share` is the part of the whole batch that a replica holds
    (float32, 1 for a single device), so that means over parts add up to the mean over the whole. It is that of the first
    stream: a mean over another one's batch is the whole's where replicas hold equal parts of it, and near it elsewhere.
    A stream whose source places its augmentation on the device comes plain, and is finished here, as part of the
    step; `epochs` holds a scalar int64 a stream. `pull` is one more loss, told as `l2_sp`; `precision` is that of what learns.
    """
    on_device = {name: one for name, one in sources.items() if one.placement == "device"}

    def on_replica(
        batches: Mapping[str, Batch], share: tf.Tensor, progress: tf.Tensor, epochs: Epochs
    ) -> dict[str, tf.Tensor]:
        finished = {name: one.finish(*batches[name], epochs[name]) for name, one in on_device.items()}
        batches = {**batches, **finished}
        with tf.GradientTape() as tape:
            with computing_in_precision(precision, model):
                losses = step.losses(model, batches, progress)
            if pull is not None:
                losses = {**losses, "l2_sp": pull()}
            minimised = [value for name, value in losses.items() if name not in step.metric_names]
            total = share * tf.add_n([*minimised, *model.losses])
        gradients = tape.gradient(total, [variable.value for variable in variables])
        if variables:  # none where a step lets statistics alone move
            optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return {name: share * value for name, value in losses.items()}

    if strategy.num_replicas_in_sync == 1:
        # One signature for every batch: the smaller last one would be traced a second time.
        signature = (
            {name: _signature(model, one) for name, one in sources.items()},
            tf.TensorSpec([], tf.float32),
            tf.TensorSpec([], tf.float32),
            {name: tf.TensorSpec([], tf.int64) for name in sources},
        )
        return tf.function(on_replica, input_signature=signature, autograph=False)

    @tf.function(reduce_retracing=True, autograph=False)
    def on_all(batches: Any, share: Any, progress: tf.Tensor, epochs: Epochs) -> dict[str, tf.Tensor]:
        values = strategy.run(on_replica, args=(batches, share, progress, epochs))
        return {
            name: strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
            for name, value in values.items()
        }

    return on_all


def _signature(model: keras.Model, source: Source) -> tuple[Any, ...]:
    """Return the shapes of a batch as it reaches the step."""
    mixed = source.mixes and source.placement == "host"
    labels = (
        tf.TensorSpec([None, model.output_shape[-1]], tf.float32)
        if mixed
        else tf.TensorSpec([None], tf.int32)
    )
    return signature_of(model), labels, tf.TensorSpec([None], tf.int64)


class StepInput(NamedTuple):
    """What one step takes.

    Args:
        batches: a batch of each stream, or one a replica.
        share: the part of the first stream's whole batch that a replica holds: float32, 1 for a single device.
        epochs: the epoch of each stream's own source that its batch is of: scalars, int64.
        num_images: of the first stream.
    """

    batches: dict[str, Any]
    share: Any
    epochs: dict[str, tf.Tensor]
    num_images: int


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


def _for_the_step(source: Source, epoch: int, shard: tuple[int, int], first_step: int = 0) -> Iterator[Batch]:
    """Yield batches as the training step takes them: it finishes by itself what is placed on the device."""
    if source.placement == "host":
        return read_batches(source, epoch, shard, first_step)
    return _named_faults(source, source.plain_batches(epoch, first_step, shard))


def step_inputs(
    streams: Mapping[str, Source], epoch: int, strategy: tf.distribute.Strategy, done: int = 0
) -> Iterator[StepInput]:
    """Yield what each step of an epoch takes, split over the replicas of a strategy.

    The first stream goes once through its `epoch`. The others go round: step k of the phase takes batch `k % steps` of
    their epoch `k // steps`, so that what a step sees follows from its number alone.

    A step is left out where a stream has fewer images than there are replicas: no statistics can be made of no
    image.

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
            yield StepInput(batches, one, epochs, _rows(next(iter(batches.values()))))
        return
    parts = [_side_by_side(streams, epoch, done, (index, replicas)) for index in range(replicas)]
    for step in zip(*parts, strict=True):
        rows = {name: [_rows(batches[name]) for batches, _ in step] for name in streams}
        if any(0 in one for one in rows.values()):
            continue
        counts = next(iter(rows.values()))
        whole = sum(counts)
        yield StepInput(
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


def _round_and_round(source: Source, step: int, shard: tuple[int, int]) -> Iterator[tuple[Batch, tf.Tensor]]:
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

"""One update of the weights, on one device or on all replicas of a strategy, and its batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from kerastl.data import report_unreadable
from kerastl.models import is_linear
from kerastl.training.freeze import override_attribute
from kerastl.training.optimizer import build_l2_sp
from kerastl.training.step import Batch, PhaseData, signature_of
from kerastl.training.trunk import PhaseNetwork, Source

FLOAT32_LAYERS = (keras.layers.GlobalAveragePooling2D, keras.layers.InputLayer)
"""Layers that stay in float32: sums over many values, and inputs."""


def computing_in_precision(precision: str, model: keras.Model) -> AbstractContextManager[None]:
    """Return a context in which the trainable part of a model is traced in a different precision.

    It works like the Keras policy `mixed_bfloat16` (Micikevicius et al. 2018, arXiv:1710.03740, section 3.1; bfloat16 has
    the range of float32 and needs no loss scaling: Kalamkar et al. 2019, arXiv:1905.12322), except that pixels are
    rescaled in float32. Only the training step uses it: validation evaluates the float32 network that is saved.

    Args:
        precision: `mixed_bfloat16`, or `float32`, which changes nothing.
        model: The network of a phase: a flat model, or a frozen trunk, which keeps its own precision, and a tail.
    """
    layers = [] if precision == "float32" else _reduced_precision_layers(model)
    return override_attribute(layers, "dtype_policy", keras.DTypePolicy(precision))


def _reduced_precision_layers(model: keras.Model) -> list[Any]:
    """Return the layers of the trainable part from its first linear layer on, without the head."""
    last = model.layers[-1]
    layers = last.layers if isinstance(last, keras.Model) else model.layers
    # A faster layer that replaces a linear one holds it as `layer`.
    first = next(
        (index for index, layer in enumerate(layers) if is_linear(getattr(layer, "layer", layer))),
        len(layers),
    )
    return [
        sublayer
        for layer in layers[first:]
        if not isinstance(layer, FLOAT32_LAYERS) and layer.name != "head"
        # The signature of a model is stored in a policy map, which another policy would replace.
        if not isinstance(layer.dtype_policy, keras.dtype_policies.DTypePolicyMap)
        for sublayer in layer._flatten_layers()
    ]


Epochs = Mapping[str, tf.Tensor]
Update = Callable[[Mapping[str, Batch], tf.Tensor, tf.Tensor, Epochs], dict[str, tf.Tensor]]


def build_update(
    network: PhaseNetwork,
    data: PhaseData,
    optimizer: keras.Optimizer,
    variables: Sequence[keras.Variable],
    strategy: tf.distribute.Strategy,
    initial_weights: Mapping[str, Any],
) -> Update:
    """Return a traced function `(batches, share, progress, epochs) -> {name: scalar}`.

    `batches` maps the name of a stream to a `Batch`, or to one per replica. `share` is the fraction of the first stream's
    batch on this replica (float32, 1 for a single device), so that means over parts add up to the mean over the batch. For
    other streams this is exact only if the replicas have equal parts. If a dataset places its augmentation on the
    device, its batches are not augmented yet, and the step does it; `epochs` holds an int64 scalar per stream for that.

    Args:
        network: What the step runs, and its streams.
        data: The phase and its step. The penalty of `l2_sp` is added to the loss and reported; `precision` applies to the
            trainable part.
        optimizer: The optimizer of the variables.
        variables: The trained variables.
        strategy: The strategy with the replicas.
        initial_weights: The weights before training by path, see `build_l2_sp`.
    """
    model, sources, step = network.model, network.streams, data.step
    l2_sp = build_l2_sp(data.phase.l2_sp, variables, initial_weights)
    on_device = {name: source for name, source in sources.items() if source.placement == "device"}

    def on_replica(
        batches: Mapping[str, Batch], share: tf.Tensor, progress: tf.Tensor, epochs: Epochs
    ) -> dict[str, tf.Tensor]:
        augmented = {name: source.finish(*batches[name], epochs[name]) for name, source in on_device.items()}
        batches = {**batches, **augmented}
        with tf.GradientTape() as tape:
            with computing_in_precision(data.phase.precision, model):
                losses = step.losses(model, batches, progress)
            if l2_sp is not None:
                losses = {**losses, "l2_sp": l2_sp()}
            minimized = [value for name, value in losses.items() if name not in step.metric_names]
            total = share * tf.add_n([*minimized, *model.losses])
        gradients = tape.gradient(total, [variable.value for variable in variables])
        if variables:  # a step that only updates statistics has none
            optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return {name: share * value for name, value in losses.items()}

    if strategy.num_replicas_in_sync == 1:
        # One signature for all batches: a smaller last batch would be traced again.
        return tf.function(on_replica, input_signature=_signature(network), autograph=False)

    @tf.function(reduce_retracing=True, autograph=False)
    def on_all(batches: Any, share: Any, progress: tf.Tensor, epochs: Epochs) -> dict[str, tf.Tensor]:
        values = strategy.run(on_replica, args=(batches, share, progress, epochs))
        return {
            name: strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
            for name, value in values.items()
        }

    return on_all


def _signature(network: PhaseNetwork) -> tuple[Any, ...]:
    """Return the signature of the update."""
    scalar, images, indices = tf.TensorSpec([]), signature_of(network.model), tf.TensorSpec([None], tf.int64)
    batches, epochs = {}, {}
    for name, source in network.streams.items():
        is_mixed = source.mixes and source.placement == "host"
        mixed_labels = tf.TensorSpec([None, network.model.output_shape[-1]])
        batches[name] = images, mixed_labels if is_mixed else tf.TensorSpec([None], tf.int32), indices
        epochs[name] = tf.TensorSpec([], tf.int64)
    return batches, scalar, scalar, epochs


class StepInput(NamedTuple):
    """The input of one step.

    Args:
        batches: A batch of each stream, or one per replica.
        share: The fraction of the first stream's batch on each replica, float32. 1 for a single device.
        epochs: The epoch of each stream's batch in its own dataset, int64 scalars.
        num_images: The number of images in the batch of the first stream.
    """

    batches: dict[str, Any]
    share: Any
    epochs: dict[str, tf.Tensor]
    num_images: int


def read_batches(
    source: Source,
    epoch: int,
    shard: tuple[int, int] = (0, 1),
    first_step: int = 0,
    *,
    for_update: bool = False,
) -> Iterator[Batch]:
    """Yield the batches of an epoch from `first_step` on, augmented and mixed.

    Args:
        source: The dataset.
        epoch: The epoch.
        shard: `(index, number of shards)`.
        first_step: The first step that is yielded.
        for_update: Whether the update reads them, which does the augmentation itself if it is placed on the device.

    Raises:
        RunFailed: If a file can no longer be read. The message names it.
    """
    with report_unreadable(source):
        if for_update and source.placement == "device":
            yield from source.plain_batches(epoch, first_step, shard)
        else:
            yield from source.indexed_batches(epoch, first_step, shard)


def step_inputs(
    streams: Mapping[str, Source], epoch: int, strategy: tf.distribute.Strategy, steps_done: int = 0
) -> Iterator[StepInput]:
    """Yield the input of each step of an epoch, split over the replicas of a strategy.

    The epoch is one pass over the first stream. The others repeat: step k of the phase takes batch `k % steps` of their
    epoch `k // steps`. The input of a step therefore depends on its number only.

    Skips a step if some replica would get no image of a stream, because statistics need at least one image.

    Args:
        streams: Datasets by name, none of them empty.
        epoch: Epoch of the first stream.
        strategy: The strategy with the replicas.
        steps_done: Steps of the phase before this epoch.
    """
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        share = tf.constant(1.0)
        for batches, epochs in _aligned(streams, epoch, steps_done, (0, 1)):
            yield StepInput(batches, share, epochs, _size(next(iter(batches.values()))))
        return
    parts = [_aligned(streams, epoch, steps_done, (index, replicas)) for index in range(replicas)]
    for step in zip(*parts, strict=True):
        sizes = {name: [_size(batches[name]) for batches, _ in step] for name in streams}
        if any(0 in of_stream for of_stream in sizes.values()):
            continue
        counts = next(iter(sizes.values()))
        total = sum(counts)
        yield StepInput(
            {name: _per_replica(strategy, [batches[name] for batches, _ in step]) for name in streams},
            _per_replica(strategy, [tf.constant(count / total, tf.float32) for count in counts]),
            step[0][1],
            total,
        )


def _size(batch: Batch) -> int:
    return int(batch[1].shape[0])


def _aligned(
    streams: Mapping[str, Source], epoch: int, steps_done: int, shard: tuple[int, int]
) -> Iterator[tuple[dict[str, Batch], dict[str, tf.Tensor]]]:
    """Yield the batches of each step, and their epochs, by stream."""
    first, *others = streams
    number = tf.constant(epoch, tf.int64)
    repeated = {name: _repeat(streams[name], steps_done, shard) for name in others}
    for batch in read_batches(streams[first], epoch, shard, for_update=True):
        batches, epochs = {first: batch}, {first: number}
        for name, endless in repeated.items():
            batches[name], epochs[name] = next(endless)
        yield batches, epochs


def _repeat(source: Source, step: int, shard: tuple[int, int]) -> Iterator[tuple[Batch, tf.Tensor]]:
    """Yield batches and their epochs without end, from a step of the phase on."""
    epoch, first_step = divmod(step, source.steps_per_epoch)
    while True:
        number = tf.constant(epoch, tf.int64)
        for batch in read_batches(source, epoch, shard, first_step, for_update=True):
            yield batch, number
        epoch, first_step = epoch + 1, 0


def _per_replica(strategy: tf.distribute.Strategy, values: Sequence[Any]) -> Any:
    return strategy.experimental_distribute_values_from_function(
        lambda context: values[context.replica_id_in_sync_group]
    )

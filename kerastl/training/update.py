"""One update of the weights, on one device or on every replica of a strategy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from kerastl.training.l2_sp import Pull
from kerastl.training.learner import Source
from kerastl.training.mixed_precision import StepPrecision, computing_in
from kerastl.training.step import Batch, Step
from kerastl.training.tracing import signature_of

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
        finished = {
            name: one.finish(*batches[name], epochs[name]) for name, one in on_device.items()
        }
        batches = {**batches, **finished}
        with tf.GradientTape() as tape:
            with computing_in(precision, model):
                losses = step.losses(model, batches, progress)
            if pull is not None:
                losses = {**losses, "l2_sp": pull()}
            minimised = [value for name, value in losses.items() if name not in step.shown]
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
    def on_all(
        batches: Any, share: Any, progress: tf.Tensor, epochs: Epochs
    ) -> dict[str, tf.Tensor]:
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

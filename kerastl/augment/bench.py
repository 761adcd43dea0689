"""What a policy costs on this machine, operation by operation, and how each is lowered.

Three ways of making the same augmentation are timed in turn, round by round, in tf.data as training does it: the
layers called as a user of keras-cv calls them, each by itself with numbers that depend on the example alone (`exact`),
and compiled. What the machine does besides then hits all three alike, and their ratio within a round says
more than their speeds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from kerastl import registry
from kerastl.augment.named import Operation, named
from kerastl.augment.policy import Policy, build_policy
from kerastl.errors import RequestError
from kerastl.progress import track

UNTIMED_BATCHES = 4
"""Batches that tf.data makes before it is known how fast it makes them."""
NUM_PICTURES = 64
WHOLE = "the whole policy"
OWN = "kerastl's own layer stands in for keras-cv's, and draws only from the seeds of a policy"

Pixels = np.ndarray[Any, Any]
Change = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


@dataclass(frozen=True)
class Row:
    """One operation alone, or the whole policy.

    Args:
        name: of the operation, or `the whole policy`.
        lowering: how the compiler takes it: `nothing`, `folded`, `hsv`, `linear`, `compiled` or `layer` (it falls back
            to the layer itself); of the whole policy each of these once, in order.
        corrected: whether the layer is kerastl's own, where keras-cv's is wrong or changes one picture at a time.
        keras_cv, exact, compiled: images per second, median over the rounds; None: it cannot be called so.
        speedup: compiled over keras_cv, median of the ratios within rounds.
        reason: why the layers cannot be called as keras-cv's are; empty otherwise.
    """

    name: str
    lowering: str
    corrected: bool
    keras_cv: float | None
    exact: float
    compiled: float
    speedup: float | None
    reason: str = ""


def bench_policy(
    operations: Sequence[Operation | Mapping[str, Any]],
    *,
    image_size_px: int,
    batch_size: int = 32,
    channels: int = 3,
    pictures: Pixels | None = None,
    rounds: int = 3,
    seconds: float = 0.5,
) -> list[Row]:
    """Time each operation alone and the whole policy.

    Args:
        operations: as `build_policy` takes them.
        image_size_px: side of the square pictures.
        batch_size: pictures a batch.
        channels: 3, or 1 where every operation works on grey.
        pictures: `[count, size, size, channels]` in [0, 255], what is changed; None: drawn ones.
        rounds: of which the median is told.
        seconds: that each of the three ways is timed in each round.

    Returns:
        One row an operation in their order, and last the whole policy; of a single operation only its own row.
        Keras-cv's layers are called on float32 in batches, on every picture: an `apply_probability` is kerastl's.

    Raises:
        RequestError: no operations, or pictures of another shape.
        Problems: options that are missing, unknown or out of bounds.
    """
    given = named(operations)
    if not given:
        raise RequestError("There are no operations to time: the policy changes nothing.")
    shape = (image_size_px, image_size_px, channels)
    if pictures is None:
        pictures = _drawn_pictures(shape)
    if pictures.ndim != 4 or pictures.shape[1:] != shape or not len(pictures):
        wanted = ", ".join(str(size) for size in shape)
        raise RequestError(f"pictures: must be [count, {wanted}], got {list(pictures.shape)}.")
    parts = [[one] for one in given]
    if len(given) > 1:
        parts.append(given)
    batches = tf.data.Dataset.from_tensor_slices(pictures).repeat().batch(batch_size, True)
    return [
        _row(part, batches, shape, rounds=rounds, seconds=seconds)
        for part in track(parts, "timing operations")
    ]


def _row(
    operations: Sequence[Operation],
    batches: tf.data.Dataset,
    shape: tuple[int, int, int],
    *,
    rounds: int,
    seconds: float,
) -> Row:
    """Time some operations in the three ways, in turn."""
    size, _, channels = shape
    exact, compiled = (
        build_policy(operations, image_size_px=size, channels=channels, exact=exact)
        for exact in (True, False)
    )
    layers = [_layer(operation) for operation in operations]
    ways: dict[str, Change] = {"exact": exact, "compiled": compiled}
    corrected = any(not type(layer).__module__.startswith("keras_cv.") for layer in layers)
    plain, reason = _as_it_comes(layers), ""
    try:
        plain(tf.zeros([2, *shape]), tf.zeros([2, 2], tf.int32))
        ways["keras_cv"] = plain
    except Exception as error:
        # Whatever a layer raises, the other two ways can still be timed.
        reason = (
            OWN if corrected else f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        )
    pipelines = {name: _pipeline(batches, way) for name, way in ways.items()}
    for pipeline in pipelines.values():
        _images_per_s(pipeline, 0.0)
    speeds: dict[str, list[float]] = {name: [] for name in pipelines}
    for _ in range(rounds):
        for name, pipeline in pipelines.items():
            speeds[name].append(_images_per_s(pipeline, seconds))
    theirs = speeds.get("keras_cv")
    ratios = [a / b for a, b in zip(speeds["compiled"], theirs or (), strict=bool(theirs))]
    return Row(
        name=operations[0][0] if len(operations) == 1 else WHOLE,
        lowering=_lowering(compiled),
        corrected=corrected,
        keras_cv=statistics.median(theirs) if theirs else None,
        exact=statistics.median(speeds["exact"]),
        compiled=statistics.median(speeds["compiled"]),
        speedup=statistics.median(ratios) if ratios else None,
        reason=reason,
    )


def _lowering(policy: Policy) -> str:
    return ", ".join(dict.fromkeys(how for _, how in policy.lowering))


def _layer(operation: Operation) -> Any:
    name, options = operation
    module: Any = registry.module("operation", name)
    # Without a seed keras-cv asks for the global generator, refused where operations must be deterministic.
    return module.build_layer(options, dtype="float32", seed=1)


def _as_it_comes(layers: Sequence[Any]) -> Change:
    def change(images: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
        for layer in layers:
            images = layer(images, training=True)
        return images

    return change


def _pipeline(batches: tf.data.Dataset, change: Change) -> tf.data.Dataset:
    """Return batches that are changed as in training: in parallel, in order, a seed for each example."""

    def changed(number: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
        rows = tf.range(tf.shape(images)[0])
        seeds = tf.stack([rows, tf.fill(tf.shape(rows), tf.cast(number, tf.int32))], axis=1)
        return change(tf.cast(images, tf.float32), seeds)

    mapped = batches.enumerate().map(
        changed, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    return mapped.prefetch(tf.data.AUTOTUNE)


def _images_per_s(pipeline: tf.data.Dataset, seconds: float) -> float:
    """Return the speed of a pipeline that begins anew; at least one batch is timed."""
    batches = iter(pipeline)
    for _ in range(UNTIMED_BATCHES):
        next(batches)
    images, taken, started = 0, 0.0, time.perf_counter()
    while not images or taken < seconds:
        images += len(next(batches))
        taken = time.perf_counter() - started
    return images / taken


def _drawn_pictures(shape: tuple[int, int, int]) -> Pixels:
    """Return `[64, size, size, channels]` uint8: noise, as no operation's time depends on what a picture shows."""
    return np.random.default_rng(0).integers(0, 256, (NUM_PICTURES, *shape), np.uint8)

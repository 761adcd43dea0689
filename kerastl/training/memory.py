"""How much memory a phase takes at its peak, reckoned from the network's shapes before the first step.

A reckoning, no measurement: `benchmarks/memory.py` sets it beside what a process takes. What one step took counts beside
the checkpoint: an allocator does not give all of it back in between.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import keras
from PIL import Image

from kerastl.data import ImageDataset
from kerastl.training.activations import BATCH, shapes_of
from kerastl.training.freezing import HEAD_LAYERS, resolve_batch_norm, resolve_trainable
from kerastl.training.layer_memory import (
    FLOAT32,
    front_of,
    inference_bytes,
    kept_bytes,
    weight_bytes,
)
from kerastl.training.learner import cached_front, frozen_front
from kerastl.training.phase import Phase

TRACING_BYTES = 300_000_000
"""Measured: what TensorFlow takes to trace a phase and to run it at all, whatever the batch."""
DECODED_BYTES = 3 * (1 + FLOAT32)
"""A pixel of a picture while that is decoded and resized."""
COPIES_CHANGED = 12
"""Pictures, of both streams together, that a step holds for each one that it changes: transforms, levels, what comes out."""
LOOKED_AT = 16
"""Pictures whose size is looked up, to know how large those are that are decoded at the same time."""
SLOTS = {"adam": 2, "adamw": 2, "sgd": 1}
"""Numbers that an optimizer remembers of each that it trains."""


@dataclass(frozen=True)
class Need:
    """Bytes that a phase takes at its peak, on top of what the process holds when it begins.

    Args:
        host: of the machine's memory.
        device: of the GPU's; 0 where there is none.
        parts: what makes the two up, by name.
    """

    host: int
    device: int
    parts: Mapping[str, int] = field(default_factory=dict)


def memory_of(
    model: keras.Model,
    phase: Phase,
    train: ImageDataset | None,
    val: ImageDataset | None = None,
    *,
    target: ImageDataset | None = None,
    batch_size: int | None = None,
    on_gpu: bool = False,
    changes_pixels: bool = False,
) -> Need:
    """Reckon how much memory a phase takes at its peak.

    Counted are: copies of the weights (the first, the best, the last, the folded front), what the optimizer and the
    averages remember, gradients, the activations that the way back needs, the largest activations of the frozen front,
    pictures on their way and those kept decoded, a checkpoint while it is written, and what tracing takes.

    Args:
        model: a flat classifier.
        phase: its cache is decided.
        train, val: its pictures; None: there are none.
        target: pictures of another stream that its step reads beside `train`; None: it reads none.
        batch_size: pictures a step of each stream; None: as each has it.
        on_gpu: whether the network runs on a GPU.
        changes_pixels: whether its step changes the pictures itself, which takes copies of them.
    """
    phase = resolve_batch_norm(model, phase)
    streams = [one for one in (train, target) if one is not None]
    batches = [min(batch_size or one.batch_size, one.num_examples) for one in streams]
    trained, front_weights = _weights_of(model, phase)
    # A step holds what it made of every stream until its way back.
    step = _step_bytes(model, phase, sum(batches))
    whole = weight_bytes(model.weights)
    averaged = trained * (phase.ema is not None or phase.average_last > 0)
    slots = trained * (SLOTS[phase.optimizer] + (phase.accumulate > 1)) + averaged
    size = streams[0].image_size_px
    copies = COPIES_CHANGED * changes_pixels * max(batches) * size**2 * 3 * FLOAT32
    parts = {
        "copies of weights": 4 * whole,
        "optimizer": slots + trained * (phase.l2_sp > 0) + front_weights,
        "step": step + trained + copies,
        # What lies in TensorFlow is gathered; that and the best weights are zipped in memory.
        "checkpoint": 2 * (whole + slots) + whole,
        "pictures on their way": sum(
            _pictures_bytes(phase, one, batch) for one, batch in zip(streams, batches, strict=True)
        ),
        "pictures kept": sum(_kept_pictures(one) for one in (*streams, val) if one is not None),
        "tracing": TRACING_BYTES,
    }
    on_device = parts["optimizer"] + parts["step"] if on_gpu else 0
    return Need(sum(parts.values()) - on_device, on_device, parts)


def largest_batch(fits: Callable[[int], bool], highest: int) -> int:
    """Return the largest batch size up to `highest` that fits; 0: not even one picture does.

    Args:
        fits: whether a batch size does; smaller ones than one that does all do.
        highest: at least 1.
    """
    low, high = 0, highest
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _weights_of(model: keras.Model, phase: Phase) -> tuple[int, int]:
    """Return the bytes of the weights that are trained, and of a folded copy of the frozen front."""
    chosen = {*resolve_trainable(model, phase.trainable), *HEAD_LAYERS}
    norms = {one.name for one in model.layers if isinstance(one, keras.layers.BatchNormalization)}
    held = norms if phase.batch_norm != "trainable" else set()
    trained = weight_bytes(
        [
            weight
            for layer in model.layers
            if layer.name in chosen - held
            for weight in layer._trainable_variables
        ]
    )
    front = frozen_front(model, phase)
    before = front_of(front.tensors) if front else set()
    folded = [one for layer in model.layers if layer.name in before for one in layer.weights]
    return trained, weight_bytes(folded)


def _step_bytes(model: keras.Model, phase: Phase, batch: int) -> int:
    """Return what one step holds of activations, or one batch of validation, whichever is more."""
    front = frozen_front(model, phase) if phase.cache == "none" else cached_front(model, phase)
    before = front_of(front.tensors) if front else set()
    trunk = [one for one in model.operations if one.name in before]
    tail = [one for one in model.operations if one.name not in before]
    frozen = phase.batch_norm == "frozen"
    kept, largest = kept_bytes(tail, frozen_norms=frozen)
    crossing = _crossing_bytes(front.tensors) if front else 0
    backward = batch * (kept + 2 * largest + crossing)
    if phase.cache != "none":
        return max(backward, BATCH * inference_bytes(trunk), batch * inference_bytes(tail))
    return max(backward, batch * inference_bytes(model.operations))


def _crossing_bytes(tensors: Sequence[keras.KerasTensor]) -> int:
    return sum(FLOAT32 * math.prod(shape) for shape in shapes_of(tensors))


def _pictures_bytes(phase: Phase, source: ImageDataset, batch: int) -> int:
    """Return what the pipeline holds: a batch in each thread, some that wait, and pictures being decoded."""
    cores = os.cpu_count() or 1
    rows = batch if phase.cache == "none" else BATCH
    changed = source.augmented or source.mixes
    waiting = cores * (2 if changed else 1) + 2
    batches = waiting * rows * source.image_size_px**2 * 3 * FLOAT32
    return batches + _decoding_bytes(source, cores)


def _decoding_bytes(source: ImageDataset, cores: int) -> int:
    """Return what a picture in each thread takes, by the largest of some of them."""
    records = source.records[:: max(1, len(source.records) // LOOKED_AT)]
    return cores * DECODED_BYTES * max((_pixels_of(one.file) for one in records), default=0)


def _pixels_of(file: Path) -> int:
    try:
        with Image.open(file) as image:
            return image.width * image.height
    except (OSError, ValueError, Image.DecompressionBombError):
        return 0


def _kept_pictures(source: ImageDataset) -> int:
    """Return what pictures that are decoded once take."""
    if source.cache != "memory":
        return 0
    return source.num_examples * source.image_size_px**2 * 3 * FLOAT32

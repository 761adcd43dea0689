"""The available memory, and a short estimate of what a phase needs at its peak."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import psutil

from kerastl.data import ImageDataset
from kerastl.errors import RequestError
from kerastl.options import checked
from kerastl.recipe.phase import Phase
from kerastl.training.feature_cache import BATCH
from kerastl.training.freeze import head_layers, resolve_batch_norm, resolve_trainable

FLOAT32 = 4
RUNTIME_BYTES = 300_000_000
"""Measured: what TensorFlow needs to trace and run a phase, whatever its batch size."""
NO_GRADIENT_INPUT = frozenset(
    {
        "Add", "AveragePooling2D", "BatchNormalization", "Concatenate", "Cropping2D", "Dropout", "Flatten",
        "GlobalAveragePooling2D", "InputLayer", "Normalization", "Rescaling", "Reshape", "ZeroPadding2D",
    }
)  # fmt: skip
"""Layers whose gradient needs no activation; of BatchNormalization only while it is frozen."""
IMAGE_COPIES = 12
"""Copies of an image that an adaptation method holds while it changes the pixels."""
OPTIMIZER_SLOTS = {"adam": 2, "adamw": 2, "sgd": 1}
UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}
UNLIMITED = 2**60
"""cgroup v1 writes a larger number if there is no limit."""


@dataclass(frozen=True)
class MemoryEstimate:
    """The peak memory of a phase in bytes, in addition to what the process holds before it.

    Args:
        host_fixed, host_per_image: Host memory is `host_fixed + host_per_image * batch_size`.
        gpu_fixed, gpu_per_image: The same for the memory of a GPU; 0 without one.
        max_batch: The number of images; a larger batch needs no more memory.
    """

    host_fixed: int
    host_per_image: int
    gpu_fixed: int
    gpu_per_image: int
    max_batch: int

    def host(self, batch_size: int) -> int:
        """Return the host memory at a batch size."""
        return self.host_fixed + self.host_per_image * min(batch_size, self.max_batch)

    def gpu(self, batch_size: int) -> int:
        """Return the GPU memory at a batch size."""
        return self.gpu_fixed + self.gpu_per_image * min(batch_size, self.max_batch)


@checked
def estimate_memory(
    model: keras.Model,
    phase: Phase,
    train: ImageDataset | None,
    val: ImageDataset | None = None,
    *,
    target: ImageDataset | None = None,
    on_gpu: bool = False,
    changes_pixels: bool = False,
) -> MemoryEstimate:
    """Estimate the peak memory of a phase from the sizes of the weights, activations and images.

    `benchmarks/memory.py` compares it with measurements.

    Args:
        model: A flat classifier.
        phase: A phase whose cache is decided.
        train: Its training images. None if it reads the target only.
        val: Its validation images, or None.
        target: The target images that its step reads in addition to `train`, or None.
        on_gpu: Whether the network runs on a GPU.
        changes_pixels: Whether the step changes the pixels of the images itself.
    """
    phase = resolve_batch_norm(model, phase)
    streams = [source for source in (train, target) if source is not None]
    slots, step_fixed, step_per_image = _step_bytes(model, phase, len(streams))
    image = math.prod(streams[0].image_size_px) * 3 * FLOAT32
    step_per_image += IMAGE_COPIES * image if changes_pixels else 0
    cached = sum(
        source.num_examples * image
        for source in (*streams, val)
        if source is not None and source.cache == "memory"
    )
    # Weights: initial, best and last, and a checkpoint while it is written and compressed.
    host_fixed = RUNTIME_BYTES + 7 * _weight_bytes(model.weights) + 2 * slots + cached
    prefetched = (os.cpu_count() or 1) * 2 + 2
    host_per_image = len(streams) * prefetched * image
    max_batch = max(source.num_examples for source in streams)
    if on_gpu:
        return MemoryEstimate(host_fixed, host_per_image, step_fixed, step_per_image, max_batch)
    return MemoryEstimate(host_fixed + step_fixed, host_per_image + step_per_image, 0, 0, max_batch)


def _step_bytes(model: keras.Model, phase: Phase, num_streams: int) -> tuple[int, int, int]:
    """Return the bytes of the optimizer's slots, and those of the step: fixed ones with the slots, and per image."""
    chosen = {*resolve_trainable(model, phase.trainable), *head_layers(model)}
    names = [layer.name for layer in model.layers]
    start = min(names.index(name) for name in chosen)
    frozen_layers, trained_layers = model.layers[:start], model.layers[start:]
    trained = _weight_bytes(
        weight for layer in trained_layers if layer.name in chosen for weight in layer._trainable_variables
    )
    averages = (phase.ema is not None or phase.average_last > 0) + (phase.accumulate > 1)
    slots = trained * (OPTIMIZER_SLOTS.get(phase.optimizer, 2) + averages)
    largest = max(_output_bytes(layer) for layer in trained_layers)
    for_gradients = sum(_gradient_bytes(layer, phase) for layer in trained_layers)
    forward = 3 * max((_output_bytes(layer) for layer in frozen_layers), default=0)
    # The frozen layers run as a copy with folded BatchNormalization.
    folded = _weight_bytes(weight for layer in frozen_layers for weight in layer.weights)
    fixed = slots + trained * (1 + (phase.l2_sp > 0)) + folded
    per_image = num_streams * (for_gradients + 2 * largest)
    if phase.cache == "none":
        return slots, fixed, max(per_image, num_streams * forward)
    return slots, fixed + BATCH * forward, per_image


def _gradient_bytes(layer: Any, phase: Phase) -> int:
    """Return the bytes of the activations that the gradient of a layer needs, for one image."""
    kind = type(layer).__name__
    if kind in NO_GRADIENT_INPUT and not (kind == "BatchNormalization" and phase.batch_norm == "trainable"):
        return 0
    activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
    # A layer with weights and an activation needs the values before and after the activation.
    return _output_bytes(layer) * (2 if layer.weights and activation != "linear" else 1)


def _output_bytes(layer: Any) -> int:
    """Return the bytes of a layer's outputs for one image."""
    outputs = keras.tree.flatten(layer.output)
    return sum(FLOAT32 * math.prod(side or 1 for side in output.shape[1:]) for output in outputs)


def _weight_bytes(weights: Iterable[Any]) -> int:
    return sum(FLOAT32 * math.prod(weight.shape) for weight in weights)


def available_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes that this process can still use.

    This is the memory that the operating system reports as available, or what the limit of a control group (a
    container or a batch job) leaves, whichever is less. `KERASTL_MEMORY=8GB` overrides it.

    Args:
        root: The root of the file system with the control groups.

    Raises:
        RequestError: If KERASTL_MEMORY is not a size.
    """
    override = os.environ.get("KERASTL_MEMORY")
    if override:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKmMgG][bB])?", override.strip())
        if not match:
            raise RequestError(f"KERASTL_MEMORY must be a size such as 8GB or 500MB, got '{override}'.")
        return int(float(match[1]) * UNITS[(match[2] or "").lower()])
    return min([psutil.virtual_memory().available, *_left_by_cgroups(root)])


def _left_by_cgroups(root: Path) -> Iterator[int]:
    """Yield what the limit of each control group of this process leaves; psutil does not read them."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mount, limit, usage = root / "sys/fs/cgroup", "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            mount = root / "sys/fs/cgroup/memory"
            limit, usage = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        folder = mount / path.strip("/")
        # A limit of a parent holds, too. In a container the path can be missing and only the mount exists.
        for group in (folder, *folder.parents):
            if not group.is_relative_to(mount):
                break
            try:
                maximum, used = ((group / limit).read_text().strip(), int((group / usage).read_text()))
                statistics = (group / "memory.stat").read_text()
            except (OSError, ValueError):
                continue
            reclaimable = re.search(r"^(?:total_)?inactive_file (\d+)", statistics, re.MULTILINE)
            if maximum != "max" and int(maximum) < UNLIMITED:
                yield max(0, int(maximum) - used + (int(reclaimable[1]) if reclaimable else 0))


def available_gpu_memory() -> int | None:
    """Return the bytes that TensorFlow can still allocate on the smallest GPU, or None without a GPU."""
    import tensorflow as tf
    from tensorflow.python.client import device_lib

    if not tf.config.list_physical_devices("GPU"):
        return None
    available = []
    for device in device_lib.list_local_devices():
        if device.device_type == "GPU":
            name = device.name.removeprefix("/device:")
            used = tf.config.experimental.get_memory_info(name)["current"]
            available.append(device.memory_limit - used)
    return min(available, default=None)

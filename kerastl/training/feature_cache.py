"""Disk cache of the output of a frozen trunk for every image, shared between runs.

The name of an entry is the hash of everything that its numbers depend on: the layers and weights of the trunk, the
content of the images, decoding and augmentation, the code, the packages, and the machine. Entries are never outdated.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from kerastl.console import track
from kerastl.data import ImageDataset, entry_lock, mark_in_use, report_unreadable
from kerastl.errors import RunFailed
from kerastl.models import TrunkPrecision, fold_batch_norm
from kerastl.runs import machine_info, package_versions, sha256_of, write_atomic
from kerastl.training.freeze import checksums
from kerastl.training.step import trace_inference

Array = np.ndarray[Any, Any]
Precision = Literal["float32", "bfloat16", "uint8"]


def row_type(shape: tuple[int, ...], precision: Precision) -> np.dtype[Any]:
    """Return the data type in which the activations of one image, of this shape, are stored.

    A uint8 is one of 256 equal steps between the minimum and maximum of each channel. `ranges` holds this minimum and the
    size of a step.
    """
    if precision == "uint8":
        return np.dtype([("steps", np.uint8, shape), ("ranges", np.float32, (2, shape[-1]))])
    return np.dtype((precision, shape))


def encode(values: Array, precision: Precision) -> Array:
    """Return `[batch, *shape]` float32 as rows of `row_type`, one per image."""
    if precision != "uint8":
        return values.astype(precision)
    flat = values.reshape(len(values), -1, values.shape[-1])
    low, high = flat.min(axis=1), flat.max(axis=1)
    step = (high - low) / np.float32(255)
    # In a constant channel all differences are 0, so any divisor is correct.
    divisor = np.where(step > 0, step, 1)[:, None]
    rows = np.empty(len(values), row_type(values.shape[1:], precision))
    rows["steps"] = np.rint((flat - low[:, None]) / divisor).clip(0, 255).reshape(values.shape)
    rows["ranges"] = np.stack([low, step], axis=1)
    return rows


def decode(rows: Array, precision: Precision) -> Array:
    """Return `[batch, *shape]` float32 from rows of `row_type`."""
    if precision != "uint8":
        return np.asarray(rows, np.float32)
    steps, ranges = rows["steps"], rows["ranges"]
    flat = steps.reshape(len(steps), -1, steps.shape[-1]).astype(np.float32)
    low, step = ranges[:, 0, None], ranges[:, 1, None]
    decoded: Array = (low + flat * step).reshape(steps.shape)
    return decoded


BATCH = 32
"""Images per forward pass. Fixed, because the last bits of an activation can depend on it."""
ABOUT = "about.json"


class CachedDataset:
    """Batches of cached activations, in the order of the dataset of their images.

    Args:
        dataset: The images. They are not read.
        tensors: For each output tensor of the trunk, its encoded rows `[views, images, ...]`. Epoch `e` uses view `e` modulo
            the number of views.
        precision: The encoding.

    Attributes:
        steps_per_epoch, labels: Those of the images.
        mixes, placement: Batches are not mixed, and nothing is left to do on the device.
        num_bytes: Size on disk.
    """

    mixes = False
    placement: Literal["host"] = "host"

    def __init__(self, dataset: ImageDataset, tensors: Sequence[Array], precision: Precision) -> None:
        self._dataset, self._tensors, self._precision = dataset, tensors, precision
        self.steps_per_epoch, self.labels = dataset.steps_per_epoch, dataset.labels
        self.num_bytes = sum(tensor.nbytes for tensor in tensors)

    def indexed_batches(
        self, epoch: int, first_step: int = 0, shard: tuple[int, int] = (0, 1)
    ) -> Iterator[tuple[Any, tf.Tensor, tf.Tensor]]:
        """Yield the batches of one epoch, like `ImageDataset.indexed_batches`.

        Returns:
            Tuples (activations, labels `[b]` int32, indices `[b]` int64). Activations are a `[b, ...]` float32 tensor, or
            a list of tensors if the trunk has several outputs.
        """
        view = epoch % self._dataset.views
        for indices in self._dataset.steps(epoch, first_step, shard):
            tensors = [
                tf.constant(decode(tensor[view, indices], self._precision)) for tensor in self._tensors
            ]
            activations = tensors[0] if len(tensors) == 1 else tensors
            yield activations, tf.constant(self.labels[indices]), tf.constant(indices)

    def explain(self, error: Exception) -> Exception:
        """Return the error itself, because no image is read."""
        return error


def activations_size(trunk: keras.Model, dataset: ImageDataset, precision: Precision) -> int:
    """Return the size on disk, in bytes, of the activations of a dataset.

    Args:
        trunk: Model from images to activations.
        dataset: The images.
        precision: The encoding.
    """
    bytes_per_image = sum(row_type(tensor.shape[1:], precision).itemsize for tensor in trunk.outputs)
    return bytes_per_image * dataset.num_examples * dataset.views


def describe_entry(dataset: ImageDataset, precision: Precision, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of an entry for `kerastl cache ls`. It contains no image name."""
    return {**about, "images": dataset.num_examples, "views": dataset.views, "precision": precision}


def cache_activations(
    trunk: keras.Model,
    datasets: Sequence[ImageDataset],
    *,
    precision: Precision,
    folder: Path,
    trunk_precision: TrunkPrecision = "float32",
    about: Mapping[str, Any] | None = None,
) -> list[CachedDataset]:
    """Return the activations of every image and view of each dataset. Computes those that are not cached yet.

    Args:
        trunk: Model from images to activations. It is frozen and runs in inference mode.
        datasets: The images. View `v` has the augmentation of epoch `v`.
        precision: Encoding on disk.
        folder: Folder of all entries. Waits for an entry that another process is writing. An entry is not deleted
            while its activations are in use.
        trunk_precision: Precision of the computation.
        about: Description of the trunk for `kerastl cache ls`: its `network` and the `boundary` block.

    Raises:
        RunFailed: If an image can no longer be read, or if the disk is full. No partial entry remains.
    """
    layers = _describe_trunk(trunk, trunk_precision)
    build_trunk = cache(lambda: trace_inference(fold_batch_norm(trunk, trunk_precision)))
    cached = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for dataset in datasets:
            entry = folder / _key(layers, dataset, precision)
            with entry_lock(entry):
                if not _is_complete(entry):
                    description = describe_entry(dataset, precision, about or {})
                    _compute(_forward(build_trunk, dataset), trunk, precision, entry, description)
                cached.append(CachedDataset(dataset, _open(entry, trunk, dataset, precision), precision))
                mark_in_use(entry, cached[-1])
        return cached
    except OSError as error:
        raise RunFailed(
            f"Cannot write the activations of the frozen layers to {folder}: {error.strerror or error}. "
            "Choose a folder with free space: export KERASTL_CACHE=DIR. "
            "Or disable the cache: --set phases[N].cache=none"
        ) from error


def _describe_trunk(trunk: keras.Model, trunk_precision: TrunkPrecision) -> dict[str, Any]:
    """Return everything that defines the function of a trunk: layers, hashes of the weights, precision."""
    return {"layers": trunk.to_json(), "weights": checksums(trunk), "trunk_precision": trunk_precision}


def _key(layers: dict[str, Any], dataset: ImageDataset, precision: Precision) -> str:
    content = {
        **layers,
        "images": dataset.fingerprint(),
        "precision": precision,
        "code": _code_hashes(),
        "packages": package_versions(),
        "machine": machine_info(),
        "devices": [device.name for device in tf.config.list_physical_devices()],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


@cache
def _code_hashes() -> dict[str, str]:
    """Return the hash of each source file of this package."""
    package = Path(__file__).parents[1]
    return {str(file.relative_to(package)): sha256_of(file) for file in package.rglob("*.py")}


def _is_complete(entry: Path) -> bool:
    """Return whether an entry exists and every file has the hash that was recorded."""
    try:
        hashes = json.loads((entry / ABOUT).read_text(encoding="utf-8"))["sha256"]
        return all(sha256_of(entry / name) == expected for name, expected in hashes.items())
    except (OSError, ValueError, KeyError):
        return False


def _files(entry: Path, trunk: keras.Model) -> list[Path]:
    """Return the file of each output tensor of a trunk."""
    return [entry / f"tensor{number}.bin" for number, _ in enumerate(trunk.outputs)]


def _compute(
    outputs: Iterator[list[Array]],
    trunk: keras.Model,
    precision: Precision,
    entry: Path,
    description: Mapping[str, Any],
) -> None:
    """Write a complete entry or nothing. The caller holds the lock, so existing files are leftovers."""
    part = entry.with_name(f".{entry.name}.part")
    for leftover in (part, entry):
        shutil.rmtree(leftover, ignore_errors=True)
    part.mkdir()
    try:
        # Unlike a memory map, a file raises an error if the disk is full.
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(path.open("wb")) for path in _files(part, trunk)]
            for batch in outputs:
                for file, values in zip(files, batch, strict=True):
                    file.write(encode(values, precision).tobytes())
        hashes = {file.name: sha256_of(file) for file in part.iterdir()}
        write_atomic(part / ABOUT, json.dumps({"holds": description, "sha256": hashes}, sort_keys=True))
        part.replace(entry)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _forward(build_trunk: Callable[[], Callable[[Any], Any]], dataset: ImageDataset) -> Iterator[list[Array]]:
    """Yield the outputs of the trunk for all images in index order, view by view. The trunk is built first."""
    trunk = build_trunk()
    steps = -(-dataset.num_examples // BATCH)
    for view in range(dataset.views):
        message = "caching features"
        if dataset.views > 1:
            message += f", view {view + 1} of {dataset.views}"
        with report_unreadable(dataset):
            for images, _, _ in track(dataset.all_images(view, BATCH), message, steps):
                yield [np.asarray(values) for values in keras.tree.flatten(trunk(images))]


def _open(entry: Path, trunk: keras.Model, dataset: ImageDataset, precision: Precision) -> list[Array]:
    """Return the rows of each output tensor of the trunk as a memory map."""
    shape = (dataset.views, dataset.num_examples)
    return [
        np.memmap(file, row_type(tensor.shape[1:], precision), mode="r", shape=shape)
        for file, tensor in zip(_files(entry, trunk), trunk.outputs, strict=True)
    ]

"""What a frozen trunk makes of every image, computed once and kept on disk, shared between runs.

An entry's name is the hash of all that its numbers depend on: the trunk's layers and weights, the content of the
images, how they are decoded and augmented, the code, the packages, and the kind of machine. So an entry is never
out of date; it is only not asked for any more.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Literal

import keras
import numpy as np
import tensorflow as tf

from kerastl.console import track
from kerastl.data import ImageDataset, mark_in_use, entry_lock
from kerastl.errors import RunFailed
from kerastl.models import TrunkPrecision, fold
from kerastl.runs import machine_info, package_versions, sha256_of, write_atomic
from kerastl.training.phase import ENCODINGS, Array, Precision, bytes_per_image
from kerastl.training.step import trace_inference

BATCH = 32
"""Images a forward pass: fixed, as the last bits of an activation may depend on it."""
ABOUT = "about.json"
Shapes = Sequence[tuple[int, ...]]
Trunk = Callable[[], Callable[[Any], Any]]
"""Builds, at the first call, the traced function from images to activations."""


@dataclass(frozen=True)
class Activations:
    """What a trunk made of the images of one source.

    Args:
        columns: for each tensor that leaves the trunk the columns of its encoding, `[views, images, ...]`.
        precision: their encoding.
        num_bytes: on disk.
    """

    columns: Sequence[Sequence[Array]]
    precision: Precision
    num_bytes: int

    def rows(self, view: int, indices: Array) -> list[Array]:
        """Return the activations of some images: `[rows, ...]` float32, one a tensor."""
        encoding = ENCODINGS[self.precision]
        return [encoding.decode([column[view, indices] for column in columns]) for columns in self.columns]


def activation_shapes(tensors: Sequence[keras.KerasTensor]) -> list[tuple[int, ...]]:
    """Return the shapes of one image's activations, from the tensors that leave a trunk."""
    return [tuple(tensor.shape[1:]) for tensor in tensors]


def activations_size(shapes: Sequence[tuple[int, ...]], source: ImageDataset, precision: Precision) -> int:
    """Return the bytes that the activations of a source take, headers aside; of `activation_shapes`."""
    each = bytes_per_image(shapes, precision)
    return each * source.num_examples * source.views


def describe_entry(source: ImageDataset, precision: Precision, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return what stands in an entry for people; no name of an image is in it."""
    return {
        **about, "images": source.num_examples, "views": source.views, "precision": precision
    }  # fmt: skip


def cache_activations(
    trunk: keras.Model,
    sources: Sequence[ImageDataset],
    *,
    precision: Precision,
    folder: Path,
    trunk_precision: TrunkPrecision = "float32",
    about: Mapping[str, Any] | None = None,
) -> list[Activations]:
    """Return the activations of every image and view of some sources; computed only where they are not kept yet.

    Args:
        trunk: from the image on; what it holds is frozen, and runs as in inference.
        sources: images; each of their views is augmented as in the epoch of that number.
        precision: how they are kept.
        folder: of all entries; one that is being written by another process is waited for. While what is returned
            lives, nobody removes its entry.
        trunk_precision: what the trunk computes in.
        about: what `kerastl cache ls` tells of the entry: `network`, and the block `behind` which it was made.

    Raises:
        RunFailed: an image can no longer be read, or the disk is full; no half entry is left.
    """
    layers, shapes = _layers(trunk, trunk_precision), activation_shapes(trunk.outputs)
    # Built for the first that is not kept yet.
    forward = cache(lambda: trace_inference(fold(trunk, trunk_precision)))
    found = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for source in sources:
            entry = folder / _key(layers, source, precision)
            with entry_lock(entry):
                if not _is_whole(entry):
                    told = describe_entry(source, precision, about or {})
                    _compute(forward, shapes, source, precision, entry, told)
                found.append(_open(entry, shapes, precision))
                mark_in_use(entry, found[-1])
        return found
    except OSError as error:
        raise RunFailed(
            f"The activations of the frozen layers cannot be kept in {folder}: {error.strerror or error}. "
            "Name a folder with room, or do without: export KERASTL_CACHE=DIR, or --set phases[N].cache=none"
        ) from error


def _layers(trunk: keras.Model, trunk_precision: TrunkPrecision) -> dict[str, str]:
    """Return what a trunk computes, as text: its layers, the hash of its weights, and in what it computes."""
    weights = hashlib.sha256()
    for variable in trunk.variables:
        weights.update(keras.ops.convert_to_numpy(variable).tobytes())
    return {
        "layers": trunk.to_json(), "weights": weights.hexdigest(), "trunk_precision": trunk_precision
    }  # fmt: skip


def _key(layers: dict[str, str], source: ImageDataset, precision: Precision) -> str:
    told = {
        **layers,
        "images": source.fingerprint(),
        "precision": precision,
        "code": _code(),
        "packages": package_versions(),
        "machine": machine_info(),
        "devices": [device.name for device in tf.config.list_physical_devices()],
    }
    text = json.dumps(told, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@cache
def _code() -> str:
    """Return the hash of this package's own source: other code, other entries."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(str(file.relative_to(package)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _is_whole(entry: Path) -> bool:
    """Tell whether an entry is there and every file holds what was written."""
    try:
        told = json.loads((entry / ABOUT).read_text(encoding="utf-8"))
        return all(sha256_of(entry / name) == wanted for name, wanted in told["sha256"].items())
    except (OSError, ValueError, KeyError):
        return False


def _file_name(tensor: int, column: int) -> str:
    return f"tensor{tensor}-{column}.npy"


def _compute(
    forward: Trunk,
    shapes: Shapes,
    source: ImageDataset,
    precision: Precision,
    entry: Path,
    told: Mapping[str, Any],
) -> None:
    """Write an entry whole or not at all. The caller holds its lock, so what lies there is nobody's."""
    part = entry.with_name(f".{entry.name}.part")
    for left_over in (part, entry):
        shutil.rmtree(left_over, ignore_errors=True)
    part.mkdir()
    try:
        sums = _write_columns(forward, shapes, source, precision, part)
        write_atomic(part / ABOUT, json.dumps({"holds": told, "sha256": sums}, sort_keys=True))
        part.replace(entry)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_columns(
    forward: Trunk, shapes: Shapes, source: ImageDataset, precision: Precision, folder: Path
) -> dict[str, str]:
    """Write one `.npy` a column; return the sha256 of each."""
    encoding = ENCODINGS[precision]
    places = [
        (tensor, column, dtype, shape)
        for tensor, one in enumerate(shapes)
        for column, (dtype, shape) in enumerate(encoding.columns(one))
    ]
    with contextlib.ExitStack() as stack:
        writers = {}
        for tensor, column, dtype, shape in places:
            file = stack.enter_context((folder / _file_name(tensor, column)).open("wb"))
            whole = (source.views, source.num_examples, *shape)
            writers[tensor, column] = _Column(file, np.dtype(dtype), whole)
        for outputs in _forward(forward, source):
            for tensor, values in enumerate(outputs):
                for column, rows in enumerate(encoding.encode(values)):
                    writers[tensor, column].append(rows)
        return {_file_name(*place): writer.sha256() for place, writer in writers.items()}


class _Column:
    """An `.npy` file that is written row after row: a full disk then is an error, not a dead process.

    Args:
        file: opened for writing.
        dtype, shape: of the whole array.
    """

    def __init__(self, file: BinaryIO, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self._file, self._hash, self._dtype = file, hashlib.sha256(), dtype
        start = {
            "descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape
        }  # fmt: skip
        np.lib.format.write_array_header_2_0(file, start)
        file.flush()
        self._hash.update(Path(file.name).read_bytes())

    def append(self, rows: Array) -> None:
        """Write some rows."""
        content = np.ascontiguousarray(rows, self._dtype).tobytes()
        self._file.write(content)
        self._hash.update(content)

    def sha256(self) -> str:
        """Return the hash of all that was written; flushes it."""
        self._file.flush()
        return self._hash.hexdigest()


def _forward(forward: Trunk, source: ImageDataset) -> Iterator[list[Array]]:
    """Yield the trunk's outputs of all images in the order of their indices, view after view."""
    run = forward()
    steps = -(-source.num_examples // BATCH)
    for view in range(source.views):
        what = "keeping the features of every image"
        if source.views > 1:
            what += f", view {view + 1} of {source.views}"
        try:
            for images, _, _ in track(source.all_images(view, BATCH), what, steps):
                yield [np.asarray(values) for values in keras.tree.flatten(run(images))]
        except tf.errors.OpError as error:
            raise source.explain(error) from error


def _open(entry: Path, shapes: Sequence[Any], precision: Precision) -> Activations:
    columns = [
        [
            np.load(entry / _file_name(tensor, column), mmap_mode="r", allow_pickle=False)
            for column, _ in enumerate(ENCODINGS[precision].columns(shape))
        ]
        for tensor, shape in enumerate(shapes)
    ]
    num_bytes = sum(column.nbytes for one in columns for column in one)
    return Activations(columns, precision, num_bytes)


class CachedDataset:
    """Batches of activations, in the order of the images' own source.

    Args:
        source: the images; they are not opened any more.
        activations: of those images; epoch `e` sees view `e` modulo their number.

    Attributes:
        num_examples, steps_per_epoch, class_names, labels: of the images.
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
        """Return the error itself: no image is read that could have broken."""
        return error

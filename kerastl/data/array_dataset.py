"""Images in arrays as an `ImageDataset`, and the checks of pixels and labels from Python."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from kerastl.console import print_status
from kerastl.data.dataset import ImageDataset, Indices, no_autograph
from kerastl.data.records import Record, as_names, check_class_list, pluralize
from kerastl.errors import KerastlError, Problem, RequestError, RunFailed, first_line, raise_problems
from kerastl.options import describe_value

Array = np.ndarray[Any, Any]
TOLERANCE = 0.5
"""Resizing can exceed the range of the pixels by rounding errors."""
OVERSHOOT = 64
"""Resizing with a bicubic or Lanczos filter exceeds the range by up to about a quarter of it."""
RESCALED = "The model rescales them, with keras.layers.Rescaling in a model of your own."
CHUNK_BYTES = 2**26
NUMBERS, NAMES = "uif", "USTO"
"""Kinds of NumPy data types."""


def shape_problem(shape: Sequence[int | None], module: str) -> str | None:
    """Return why images of a shape are not `[batch, height, width, 3]`, or None.

    Args:
        shape: The shape of a batch. None is an unknown length.
        module: `np` or `tf`, whose functions the advice uses.
    """
    rank, fix = len(shape), ""
    channels = shape[-1] if rank == 4 else 0
    if rank == 4 and channels in (3, None):
        return None
    if rank == 3:
        is_single = shape[-1] in (1, 3, 4)
        fix = "x[None]" if is_single else f"{module}.stack([x] * 3, axis=-1)"
    elif rank == 4 and shape[1] in (1, 3) and channels not in (1, 2, 4):
        channels_last = f"{module}.transpose(x, [0, 2, 3, 1])"
        fix = channels_last if shape[1] == 3 else f"{module}.repeat({channels_last}, 3, axis=-1)"
    elif rank == 4 and channels in (1, 2):
        fix = f"{module}.repeat(x{'[..., :1]' if channels == 2 else ''}, 3, axis=-1)"
    elif rank == 4 and channels == 4:
        fix = "x[..., :3]"
    advice = "" if not fix else f" Use {fix}." if module == "np" else f" {mapping(fix)}"
    return f"must have the shape [batch, height, width, 3] (RGB), got {_listed(shape)}.{advice}"


def mapping(images: str) -> str:
    """Return advice to map a `tf.data.Dataset` so that its images are an expression of `x`."""
    return f"Use dataset.map(lambda x, y: ({images}, y))."


def _listed(shape: Sequence[int | None]) -> str:
    return f"[{', '.join(map(str, shape))}]"


class PixelChecker:
    """The smallest and largest pixel and the hash of each image, collected batch by batch."""

    def __init__(self) -> None:
        self.hashes: list[str] = []
        self._lowest, self._highest = list[Array](), list[Array]()

    def add(self, images: Array) -> None:
        """Add images `[n, height, width, 3]` float32, at least one."""
        self._lowest.append(images.min(axis=(1, 2, 3)))
        self._highest.append(images.max(axis=(1, 2, 3)))
        self.hashes += [hashlib.sha256(image.tobytes()).hexdigest() for image in images]

    def problem(self) -> str | None:
        """Return why the images are not in [0, 255], or None. Prints a warning if only some are in [0, 1]."""
        lowest, highest = (np.concatenate(values).astype(float) for values in (self._lowest, self._highest))
        invalid = np.flatnonzero(~np.isfinite(lowest + highest))
        if len(invalid):
            return f"{pluralize(len(invalid), 'image')} with NaN or infinite pixels. The first has the index {invalid[0]}."
        low, high = float(lowest.min()), float(highest.max())
        values = f"has values from {low:.4g} to {high:.4g}, but images must be in [0, 255]. {RESCALED}"
        if high <= 1:
            scale = "x * 255" if low >= 0 else "(x + 1) * 127.5" if -1 <= low < -0.75 else ""
            return f"{values} {f'Use {scale}, or remove' if scale else 'Remove'} the rescaling from your preprocessing."
        if low < -OVERSHOOT or high > 255 + OVERSHOOT or (low < -TOLERANCE and high < OVERSHOOT):
            scaled = (
                f"Use x * (255 / {high:g})"
                if low >= 0
                else "Remove the normalization from your preprocessing"
            )
            return f"{values} {scaled}."
        if low < -TOLERANCE or high > 255 + TOLERANCE:
            return f"{values} Clip what the resize added: keras.ops.clip(x, 0, 255)."
        scaled_images = np.flatnonzero((highest <= 1) & (highest > lowest))
        if len(scaled_images):
            print_status(
                f"Warning: {len(scaled_images)} of {pluralize(len(lowest), 'image')}, e.g. index {scaled_images[0]}, have "
                "values from 0 to 1 only and look black. If they were rescaled, use the original values."
            )
        return None


def encode_labels(labels: Any, class_names: Sequence[str]) -> Array:
    """Return class indices `[n]` int32.

    Args:
        labels: Class indices `[n]` or `[n, 1]`, class names `[n]`, or one-hot rows `[n, classes]`.
        class_names: Class names in the order of the logits.

    Raises:
        RequestError: A label is not a class.
    """
    if np.ma.isMaskedArray(labels) and np.ma.getmaskarray(labels).any():
        raise RequestError("some labels are masked. Remove these images.")
    values = np.asarray(labels)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 2:
        return _from_one_hot(values, class_names)
    if values.ndim != 1:
        raise RequestError(f"must have the shape [images], got {_listed(values.shape)}.")
    if values.dtype == object and not all(isinstance(value, str | bytes) for value in values):
        values = np.array([_as_number(value, index) for index, value in enumerate(values)])
    if values.dtype.kind in NAMES:
        return _from_names(values.tolist(), class_names)
    if values.dtype.kind not in NUMBERS + "b":
        raise RequestError(f"must be class indices or class names, got values of type {values.dtype}.")
    whole = values.astype(np.float64)
    wrong = np.flatnonzero(~np.isfinite(whole) | (whole != np.round(whole)))
    if len(wrong):
        raise RequestError(
            f"must be class indices, but label {wrong[0]} is {whole[wrong[0]]:g}. Regression is not supported."
        )
    outside = np.flatnonzero((whole < 0) | (whole >= len(class_names)))
    if len(outside):
        raise RequestError(
            f"label {outside[0]} is {whole[outside[0]]:g}, but the indices of {len(class_names)} classes are 0 to "
            f"{len(class_names) - 1}: {list(class_names)}. {pluralize(len(outside), 'label')} out of range."
        )
    return values.astype(np.int32)


def _as_number(value: Any, index: int) -> float:
    """Return a label of an object array as a number."""
    if isinstance(value, float | np.floating):
        return float(value)
    try:
        return operator.index(value)
    except TypeError as error:
        raise RequestError(
            f"must be class indices or class names, but label {index} is {describe_value(value)}. All labels must have "
            "one type, and none may be missing."
        ) from error


def _from_names(names: Sequence[str | bytes], class_names: Sequence[str]) -> Array:
    texts = [name.decode(errors="replace") if isinstance(name, bytes) else name for name in names]
    indices = {name: index for index, name in enumerate(class_names)}
    unknown = list(dict.fromkeys(text for text in texts if text not in indices))
    if unknown:
        raise RequestError(
            f"has names that are not classes ({len(unknown):,}, e.g. {unknown[:3]}). The classes are {list(class_names)}."
        )
    return np.array([indices[text] for text in texts], np.int32)


def _from_one_hot(rows: Array, class_names: Sequence[str]) -> Array:
    if rows.shape[1] != len(class_names):
        raise RequestError(
            f"has {rows.shape[1]} columns, but there are {len(class_names)} classes: {list(class_names)}."
        )
    if rows.dtype.kind not in NUMBERS + "b":
        raise RequestError(f"must be one-hot rows of numbers, got values of type {rows.dtype}.")
    wrong = np.flatnonzero(((rows != 0) & (rows != 1)).any(axis=1) | (rows.sum(axis=1) != 1))
    if len(wrong):
        raise RequestError(
            f"row {wrong[0]} is {_listed(rows[wrong[0]].tolist())}, but each row must have a single 1 and zeros. For soft "
            "labels, use Phase(label_smoothing=...), or mix= of kerastl.data.ArrayDataset."
        )
    return rows.argmax(axis=1).astype(np.int32)


class ArrayDataset(ImageDataset):
    """An `ImageDataset` of images in an array, with the same guarantees as one of files.

    The arrays are neither copied nor changed. Do not change them while the dataset is in use. A memory-mapped array is
    read batch by batch.

    Args:
        x: Images `[n, height, width, 3]` with values in [0, 255], of any numeric type.
        y: Labels: class indices `[n]` or `[n, 1]`, one-hot rows `[n, classes]` or class names `[n]`. None for unlabeled
            images, such as those of a target domain.
        class_names: Class names in the order of the logits.
        groups: Group of each image, such as its patient. Whole groups are resampled for intervals. By default, each
            image is its own group.
        **options: Options of `ImageDataset`, such as `batch_size`, `seed`, `shuffle` and `augment`. The size is that of
            the images.

    Raises:
        Problems: All problems of the arrays: shape, type, range and missing pixels, and labels that are not classes.

    Example:
        >>> x = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
        >>> kerastl.data.ArrayDataset(x, [0, 1] * 4, class_names=["cat", "dog"], augment="light")
        <ArrayDataset: 8 images of 32 x 32 px, 2 classes, batch size 32, shuffle, augment>
    """

    window: ClassVar[None] = None  # images in arrays have no stored values

    def __init__(
        self,
        x: Any,
        y: Any = None,
        *,
        class_names: Sequence[str],
        groups: Sequence[Any] | None = None,
        **options: Any,
    ) -> None:
        class_names = as_names(class_names)
        raise_problems("The ArrayDataset", check_class_list(class_names, least=1))
        problems: list[Problem] = []
        self._x = self._check_images(x, problems)
        count = len(self._x)
        labels = self._check_labels(y, class_names, problems) if y is not None else [None] * count
        groups = [None] * count if groups is None else list(groups)
        lengths = {"y": len(labels), "groups": len(groups)}
        problems += [
            Problem(name, f"has the length {length:,}, but x has {pluralize(count, 'image')}.")
            for name, length in lengths.items()
            if length != count and name not in {problem.where for problem in problems} and self._x.size
        ]
        raise_problems("The ArrayDataset", problems)
        self.has_groups = any(group is not None for group in groups)
        records = [
            Record(
                f"x[{index}]", Path(digest), label, sha256=digest, group=None if group is None else str(group)
            )
            for index, (digest, label, group) in enumerate(zip(self._hashes, labels, groups, strict=True))
        ]
        height, width = self._x.shape[1:3]
        super().__init__(records, class_names=class_names, image_size_px=(height, width), **options)

    def _check_images(self, x: Any, problems: list[Problem]) -> Array:
        """Return the images as an array, empty if there are problems, and keep the hash of each."""
        nothing = np.zeros((0, 1, 1, 3), np.uint8)
        try:
            images = np.asarray(x)
        except ValueError:
            images = np.array(None)
        message = None
        if images.dtype.kind not in NUMBERS and images.dtype.name != "bfloat16":
            message = (
                "is not an array of numbers. Resize the images to one size, and use np.stack(list(x))."
                if images.dtype == object
                else f"must contain numbers in [0, 255], got values of type {images.dtype}. For files, use "
                "kerastl.read_images."
            )
        elif np.ma.isMaskedArray(x) and np.ma.getmaskarray(x).any():
            message = "some pixels are masked. Fill them: x.filled(0)."
        else:
            message = shape_problem(images.shape, "np") or (None if images.size else "has no images.")
        checker = PixelChecker()
        if message is None:
            rows = max(1, CHUNK_BYTES // (4 * images[0].size))
            for start in range(0, len(images), rows):
                checker.add(np.asarray(images[start : start + rows], np.float32))
            message = checker.problem()
        self._hashes = checker.hashes
        problems += [Problem("x", message)] if message else []
        return nothing if message else images

    @staticmethod
    def _check_labels(y: Any, class_names: Sequence[str], problems: list[Problem]) -> list[str]:
        try:
            return [class_names[index] for index in encode_labels(y, class_names)]
        except RequestError as error:
            problems.append(Problem("y", str(error)))
            return []

    def select(self, indices: Indices | tf.Tensor, rows: int) -> tf.data.Dataset:
        """Return the images of the given indices, as `ImageDataset.select` does."""
        shape = [None, *self._x.shape[1:]]

        def gather(batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            images = tf.numpy_function(self.decode, [batch], tf.float32)
            return tf.ensure_shape(images, shape), batch

        return tf.data.Dataset.from_tensor_slices(indices).batch(rows).map(no_autograph(gather))

    def decode(self, indices: Indices) -> Array:
        """Return the images of the given indices: `[n, height, width, 3]` float32 in [0, 255]."""
        return np.asarray(self._x[indices], np.float32)

    def explain(self, error: Exception) -> KerastlError:
        """Return an error with the reason that the input pipeline raised."""
        return RunFailed(f"The input pipeline of the arrays failed: {first_line(error)}")

    def _content_hashes(self) -> list[str]:
        return [
            hashlib.sha256(self.decode(np.array([index]))[0].tobytes()).hexdigest()
            for index in range(len(self._x))
        ]

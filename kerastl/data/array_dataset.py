"""Images in arrays as an `ImageDataset`, and the checks of pixels and labels from Python."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from kerastl.console import print_status
from kerastl.data.dataset import ImageDataset, Indices, no_autograph, refuse_resize
from kerastl.data.identity import is_missing
from kerastl.data.records import Record, as_names, check_class_list
from kerastl.errors import (
    KerastlError,
    Problem,
    RequestError,
    RunFailed,
    first_line,
    pluralize,
    raise_problems,
)

Array = np.ndarray[Any, Any]
TOLERANCE = 0.5
"""Resizing can exceed the range of the pixels by rounding errors."""
OVERSHOOT = 64
"""Resizing with a bicubic or Lanczos filter exceeds the range by up to about a quarter of it."""
RESCALED = "The model rescales them itself; your own model needs a keras.layers.Rescaling layer for this."
CHUNK_BYTES = 2**26
NOT_PIXELS = "must contain numbers in [0, 255]"
NUMBERS, NAMES = "buif", "UST"
"""Kinds of NumPy data types."""


def shape_problem(shape: Sequence[int | None], module: str) -> str | None:
    """Return why images of a shape are not `[batch, height, width, 3]`, or None.

    Args:
        shape: The shape of a batch. None is an unknown length.
        module: `np` or `tf`, whose functions the advice uses.
    """
    rank, channels = len(shape), shape[-1] if shape else 0
    if rank == 4 and channels in (3, None):
        return None
    channels_last = f"{module}.transpose(x, [0, 2, 3, 1])"
    first = {1: f"{module}.repeat({channels_last}, 3, axis=-1)", 3: channels_last}
    last = {
        1: f"{module}.repeat(x, 3, axis=-1)",
        2: f"{module}.repeat(x[..., :1], 3, axis=-1)",
        4: "x[..., :3]",
    }
    fix = None
    if rank == 3:
        fix = "x[None]" if channels in (1, 3, 4) else f"{module}.stack([x] * 3, axis=-1)"
    elif rank == 4:
        fix = last.get(channels or 0, first.get(shape[1] or 0))
    advice = f" {f'Use {fix}.' if module == 'np' else mapping(fix)}" if fix else ""
    return f"must have the shape [batch, height, width, 3] (RGB), got [{', '.join(map(str, shape))}].{advice}"


def mapping(images: str) -> str:
    """Return advice to map a `tf.data.Dataset` so that its images are an expression of `x`."""
    return f"Use dataset.map(lambda x, y: ({images}, y))."


class PixelChecker:
    """The smallest and largest pixel and the hash of each image, collected batch by batch."""

    def __init__(self) -> None:
        self.hashes: list[str] = []
        self._lowest, self._highest = list[Array](), list[Array]()

    def add(self, images: Array) -> list[str]:
        """Add images `[n, height, width, 3]` float32, at least one, and return their hashes."""
        self._lowest.append(images.min(axis=(1, 2, 3)))
        self._highest.append(images.max(axis=(1, 2, 3)))
        hashes = [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
        self.hashes += hashes
        return hashes

    def problem(self) -> str | None:
        """Return why the images are not in [0, 255], or None. Prints a warning if only some are in [0, 1]."""
        lowest, highest = (np.concatenate(values).astype(float) for values in (self._lowest, self._highest))
        invalid = np.flatnonzero(~np.isfinite(lowest + highest))
        if len(invalid):
            return f"contains {pluralize(len(invalid), 'image')} with NaN or infinite pixels. The first one has index {invalid[0]}."
        low, high = float(lowest.min()), float(highest.max())
        fix = ""
        if high <= 1:
            scale = "x * 255" if low >= 0 else "(x + 1) * 127.5" if -1 <= low < -0.75 else ""
            fix = f"{f'Use {scale}, or remove' if scale else 'Remove'} the rescaling from your preprocessing."
        elif low < -OVERSHOOT or (low < -TOLERANCE and high < OVERSHOOT):
            fix = "Remove the normalization from your preprocessing."
        elif high > 255 + OVERSHOOT:
            fix = f"Use x * (255 / {high:g})."
        elif low < -TOLERANCE or high > 255 + TOLERANCE:
            fix = "Clip the overshoot of the resize: keras.ops.clip(x, 0, 255)."
        if fix:
            return (
                f"has values from {low:.4g} to {high:.4g}, but images must be in [0, 255]. {RESCALED} {fix}"
            )
        scaled_images = np.flatnonzero((highest <= 1) & (highest > lowest))
        if len(scaled_images):
            print_status(
                f"Warning: {len(scaled_images)} of {pluralize(len(lowest), 'image')}, e.g. index {scaled_images[0]}, have "
                "only values from 0 to 1 and look black. If they were rescaled, use the original values."
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
    values, number = np.asarray(labels), len(class_names)
    if values.dtype == object:
        values = np.array(values.tolist())
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 2 and values.shape[1] == number and values.dtype.kind in NUMBERS:
        is_one_hot = ((values == 0) | (values == 1)).all(axis=1) & (values.sum(axis=1) == 1)
        # Other rows have no class.
        indices = np.where(is_one_hot, values.argmax(axis=1), -1)
    elif values.ndim != 1 or values.dtype.kind not in NUMBERS + NAMES:
        raise RequestError(
            f"must be class indices or class names [images], or one-hot rows [images, {number}], and none may be missing; got "
            f"values of type {values.dtype} and shape {list(values.shape)}."
        )
    elif values.dtype.kind in NAMES:
        positions = {name: index for index, name in enumerate(class_names)}
        texts = [
            text.decode(errors="replace") if isinstance(text, bytes) else text for text in values.tolist()
        ]
        indices = np.array([positions.get(text, -1) for text in texts])
    else:
        indices = values
    wrong = np.flatnonzero(~np.isin(indices, np.arange(number)))
    if len(wrong):
        raise RequestError(
            f"label {wrong[0]} is {values[wrong[0]].tolist()!r}, but must be an index from 0 to {number - 1}, a class name, or "
            f"one-hot with a single 1. Classes: {list(class_names)}. Invalid labels: {len(wrong)} of {len(values)}."
        )
    return indices.astype(np.int32)


def _group(value: Any) -> str | None:
    """Return the group of an image; None if it is missing, such as NaN in a column of numbers."""
    return None if value is None or is_missing(str(value)) else str(value)


def _read_images(x: Any) -> tuple[Array, list[str], list[Problem]]:
    """Return images as an array, the hash of each, and their problems."""
    try:
        images = np.asarray(x)
    except ValueError:  # images of several sizes
        images = np.array(None)
    checker, message = PixelChecker(), shape_problem(images.shape, "np")
    if images.dtype == object:
        message = "is not an array of numbers. Resize the images to one size, and use np.stack(list(x))."
    elif images.dtype.kind not in NUMBERS and images.dtype.name != "bfloat16":
        message = f"{NOT_PIXELS}, got values of type {images.dtype}. For files, use kerastl.read_images."
    elif np.ma.isMaskedArray(x) and np.ma.getmaskarray(x).any():
        message = "some pixels are masked. Fill them: x.filled(0)."
    elif not message and not images.size:
        message = "has no images."
    if not message:
        rows = max(1, CHUNK_BYTES // (4 * images[0].size))
        for start in range(0, len(images), rows):
            checker.add(np.asarray(images[start : start + rows], np.float32))
        message = checker.problem()
    return images, checker.hashes, [Problem("x", message)] if message else []


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
            image is its own group, and so is an image whose group is None, NaN, empty, or a word such as `nan`.
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
        refuse_resize(options)
        class_names = as_names(class_names)
        raise_problems("The ArrayDataset", check_class_list(class_names, least=1))
        self._x, hashes, problems = _read_images(x)
        count = len(hashes)
        labels: list[Any] = [None] * count
        if y is not None:
            try:
                labels = [class_names[index] for index in encode_labels(y, class_names)]
            except (RequestError, ValueError) as error:
                problems.append(Problem("y", str(error)))
        has_groups = groups is not None
        groups = [None] * count if groups is None else [_group(value) for value in groups]
        problems = problems or [
            Problem(name, f"has the length {len(values):,}, but x has {pluralize(count, 'image')}.")
            for name, values in (("y", labels), ("groups", groups))
            if len(values) != count
        ]
        raise_problems("The ArrayDataset", problems)
        if has_groups and (missing := groups.count(None)):
            print_status(f"{pluralize(missing, 'image')} without a group: each is its own group.")
        records = [
            Record(f"x[{row}]", Path(digest), label, group=group, sha256=digest)
            for row, (digest, label, group) in enumerate(zip(hashes, labels, groups, strict=True))
        ]
        height, width = self._x.shape[1:3]
        super().__init__(records, class_names=class_names, image_size_px=(height, width), **options)
        self.resize = None

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

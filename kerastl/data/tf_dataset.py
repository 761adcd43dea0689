"""Images of a `tf.data.Dataset` as an `ImageDataset`, and the conversion of all data that Python code can pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
import tensorflow as tf

from kerastl.console import print_status
from kerastl.data.array_dataset import ArrayDataset, PixelChecker, encode_labels, mapping, shape_problem
from kerastl.data.dataset import ImageDataset, no_autograph, prefetched
from kerastl.data.records import Collection, Record, as_names, check_class_list, pluralize
from kerastl.errors import (
    KerastlError,
    Problem,
    Problems,
    RequestError,
    RunFailed,
    first_line,
    raise_problems,
)
from kerastl.image_size import Size
from kerastl.options import describe_value

Images: TypeAlias = ImageDataset | Collection | tf.data.Dataset | tuple[Any, Any]
"""Images with labels, in any form that `as_image_dataset` takes."""
Element = tuple[tf.Tensor, Any, Any]
INDEXED = "Use NumPy arrays, or a kerastl.ImageDataset."
WHOLE = "tf.data.Dataset"
SHUFFLED = 0.2
"""Shuffled labels change from one image to the next at least this often, compared with a random order."""
MIN_IMAGES = 20


def _element_problems(dataset: tf.data.Dataset) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the elements of a dataset, as far as it is known before they are read."""
    spec = dataset.element_spec
    if isinstance(spec, Mapping):
        keys = [*spec, "label"][:2]
        yield (
            WHOLE,
            f"has elements with the keys {[*spec]}, but needs (x, y): dataset.map(lambda row: (row[{keys[0]!r}], row[{keys[1]!r}])).",
        )
        return
    x, *rest = spec if isinstance(spec, tuple | list) else (spec,)
    if len(rest) > 1:
        yield (
            WHOLE,
            (
                f"has elements of {len(rest) + 1} parts, but needs (x, y). Sample weights are not supported; classes are "
                "weighted by Phase(class_weights=...). Remove them: dataset.map(lambda x, y, *rest: (x, y))."
            ),
        )
    if not isinstance(x, tf.TensorSpec):
        yield (
            "x",
            f"must be one tensor of images, got {describe_value(x)}. Resize the images before the batch.",
        )
    elif x.dtype == tf.string:
        yield "x", "has encoded images or paths. Decode and resize them, or use kerastl.read_images."
    elif not (x.dtype.is_floating or x.dtype.is_integer):
        yield "x", f"must contain numbers in [0, 255], got values of type {x.dtype.name}."
    elif x.shape.rank is not None:
        labels_rank = getattr(getattr(rest[0], "shape", None), "rank", None) if rest else None
        is_single = x.shape.rank == 3 and (labels_rank == 0 or x.shape[-1] in (1, 3, 4))
        if message := shape_problem(x.shape, "tf"):
            yield "x", "has single images. Use dataset.batch(32)." if is_single else message
    if rest and not isinstance(rest[0], tf.TensorSpec):
        yield "y", f"must be one tensor of labels, got {describe_value(rest[0])}."
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        yield WHOLE, "is infinite. Remove .repeat(), or use dataset.take(STEPS)."


def _is_sorted(labels: np.ndarray[Any, Any]) -> bool:
    """Return whether successive labels differ much less often than in a random order."""
    fractions = np.unique(labels, return_counts=True)[1] / len(labels)
    is_long = len(labels) >= MIN_IMAGES
    return bool(is_long and np.mean(labels[1:] != labels[:-1]) < SHUFFLED * (1 - (fractions**2).sum()))


class _Pass:
    """One pass over a dataset: checks its batches, and collects the labels and hashes of its images.

    Args:
        class_names: Class names in the order of the logits.
        is_labeled: Whether to read the labels. Otherwise, each is -1.
        size: (height, width) of the images. None takes that of the first batch.
        is_checked: Whether to check and hash the pixels.
    """

    def __init__(
        self, class_names: Sequence[str], *, is_labeled: bool, size: tuple[int, int] | None, is_checked: bool
    ) -> None:
        self.class_names, self.is_labeled, self.size = class_names, is_labeled, size
        self.checker = PixelChecker() if is_checked else None
        self.labels = np.zeros(0, np.int32)
        self.steps = 0

    def read(self, source: tf.data.Dataset) -> Iterator[Element]:
        """Yield batches of images float32, labels int32 and positions int64."""
        parts = []
        start = 0
        for element in prefetched(source):
            x, *rest = element if isinstance(element, tuple) else (element,)
            images, labels = self._checked(x, rest[0] if self.is_labeled else None)
            if len(labels):
                yield images, labels, np.arange(start, start + len(labels), dtype=np.int64)
                parts.append(labels)
                start, self.steps = start + len(labels), self.steps + 1
        self.labels = np.concatenate([self.labels, *parts])
        if self.checker and start and (message := self.checker.problem()):
            raise Problems("The dataset", [Problem("x", message)])

    def _checked(self, x: tf.Tensor, y: Any) -> tuple[tf.Tensor, Any]:
        """Return the images and labels of a batch.

        Raises:
            Problems: They are not images of one size, or not labels.
        """
        problems = []
        batch = f"batch {self.steps + 1}"
        size = self.size or tuple(x.shape[1:3])
        if message := shape_problem(x.shape, "tf"):
            problems.append(Problem(f"{batch}, x", message))
        elif tuple(x.shape[1:3]) != size:
            message = (
                f"has images of {tuple(x.shape[1:3])}, but other batches have images of {size}. Resize them."
            )
            problems.append(Problem(f"{batch}, x", message))
        labels = np.full(len(x), -1, np.int32)
        if self.is_labeled:
            try:
                labels = encode_labels(y.numpy(), self.class_names)
            except RequestError as error:
                problems.append(Problem(f"{batch}, y", str(error)))
        if len(labels) != len(x) and not problems:
            problems.append(Problem(f"{batch}, y", f"has {len(labels)} labels, but x has {len(x)} images."))
        raise_problems("The dataset", problems)
        self.size = size
        with tf.device("CPU:0"):
            images = tf.cast(x, tf.float32)
        if self.checker and len(labels):
            self.checker.add(images.numpy())
        return images, labels

    def records(self) -> tuple[Record, ...]:
        """Return one record per image, in the order of the pass."""
        hashes = (
            self.checker.hashes
            if self.checker
            else [f"dataset[{index}]" for index in range(len(self.labels))]
        )
        return tuple(
            Record(
                f"dataset[{index}]", Path(digest), None if label < 0 else self.class_names[label],
                sha256=digest if self.checker else "",
            )
            for index, (label, digest) in enumerate(zip(self.labels.tolist(), hashes, strict=True))
        )  # fmt: skip


class TfDataset(ImageDataset):
    """An `ImageDataset` of a batched `tf.data.Dataset` of `(x, y)`. It is read once to count and check its images.

    An epoch is one pass over the dataset, in its own order. What depends on positions in the dataset is not
    available: training on several devices, caches of frozen layers, and an exact resume. A resumed training starts a new
    pass, so that a dataset that shuffles has another order than in an uninterrupted training.

    Args:
        dataset: Batches `(x, y)`: images `[batch, height, width, 3]` with values in [0, 255], of any numeric type, and
            labels: class indices `[batch]` or `[batch, 1]`, one-hot rows or class names. Without labels, batches `x`.
        class_names: Class names in the order of the logits.
        is_constant: Whether each pass must yield the same images, in any order, as for validation and testing. A warning
            is printed if a pass does not.
        **options: `augment`, `mix`, `placement` and `seed` of `ImageDataset`.

    Attributes:
        records, labels: Those of the last complete pass, in its order.

    Raises:
        Problems: The dataset is not batched, is infinite, or has other elements than `(x, y)`; or its images or labels
            are invalid.
        RequestError: It has no images.
        RunFailed: It raises an error.

    Example:
        >>> dataset = keras.utils.image_dataset_from_directory("photos", image_size=(160, 160))
        >>> kerastl.data.TfDataset(dataset, class_names=dataset.class_names, augment="light")
        <TfDataset: 40 images of 160 x 160 px, 2 classes, batch size 32, augment>
    """

    window: ClassVar[None] = None  # its images have no stored values

    def __init__(
        self,
        dataset: tf.data.Dataset,
        *,
        class_names: Sequence[str],
        is_constant: bool = False,
        **options: Any,
    ) -> None:
        class_names = as_names(class_names)
        problems = check_class_list(class_names, least=1)
        raise_problems("The dataset", [*problems, *(Problem(*found) for found in _element_problems(dataset))])
        if dataset.cardinality() == tf.data.UNKNOWN_CARDINALITY:
            print_status("Counting the batches of the dataset. If it does not end: dataset.take(STEPS)")
        self._source, self._is_constant = dataset, is_constant
        self._failure: Exception | None = None
        self._is_labeled = isinstance(dataset.element_spec, tuple) and len(dataset.element_spec) == 2
        first = _Pass(class_names, is_labeled=self._is_labeled, size=None, is_checked=True)
        sizes = []
        try:
            sizes = [len(labels) for _, labels, _ in first.read(dataset)]
        except tf.errors.OpError as error:
            raise self.explain(error) from error
        if not sizes or first.size is None:
            raise Problems("The dataset", [Problem(WHOLE, "has no images.")])
        super().__init__(
            first.records(),
            class_names=class_names,
            image_size_px=first.size,
            batch_size=max(sizes),
            shuffle=False,
            **options,
        )
        self._first, self.steps_per_epoch, self.repeats, self.has_fingerprint = (
            first,
            len(sizes),
            False,
            False,
        )
        if self.mixes and not self._is_labeled:
            raise RequestError("The images are unlabeled. Mixing requires labels.")
        if not is_constant and _is_sorted(first.labels):
            print_status(
                "Warning: the images are sorted by class and not shuffled, so that batches differ in their classes. Shuffle "
                "them before the batch: dataset.unbatch().shuffle(10_000).batch(32)"
            )

    def with_own_order(self, *, labeled: bool) -> TfDataset:
        """Return a copy, without labels unless `labeled`. Its order is that of the dataset."""
        other: Any = super().with_own_order(labeled=labeled)
        other._is_labeled = labeled and self._is_labeled
        return other

    def as_tf_dataset(self, epoch: int | None = None) -> tf.data.Dataset:
        """Return a dataset of `(images, labels)` for `keras.Model.fit`, as `ImageDataset.as_tf_dataset` does."""
        if epoch is not None:
            return self.batches(epoch)
        passes = count()
        numbers = tf.data.Dataset.from_generator(
            lambda: iter([next(passes)]), output_signature=tf.TensorSpec([], tf.int64)
        )

        def one_pass(number: tf.Tensor) -> tf.data.Dataset:
            batches = self._finished(self._labeled_batches(0, 0, (0, 1)), number)
            return batches.map(no_autograph(lambda images, labels, _: (images, labels)))

        dataset = numbers.flat_map(no_autograph(one_pass))
        return prefetched(dataset.apply(tf.data.experimental.assert_cardinality(self.steps_per_epoch)))

    def _labeled_batches(self, epoch: int, first_step: int, shard: tuple[int, int]) -> tf.data.Dataset:  # noqa: ARG002 - each pass is the next one
        if shard != (0, 1):
            raise RequestError(f"A tf.data.Dataset cannot be divided among devices. {INDEXED}")
        height, width = self._first.size or (None, None)
        signature = (
            tf.TensorSpec([None, height, width, 3]),
            tf.TensorSpec([None], tf.int32),
            tf.TensorSpec([None], tf.int64),
        )
        return tf.data.Dataset.from_generator(
            lambda: islice(self._next_pass(), first_step, None), output_signature=signature
        )

    def _next_pass(self) -> Iterator[Element]:
        """Yield the batches of one pass, then take its records. TensorFlow replaces errors, so the original is kept."""
        self._failure = None
        one_pass = _Pass(
            self.class_names, is_labeled=self._is_labeled, size=self._first.size, is_checked=self._is_constant
        )
        try:
            yield from one_pass.read(self._source)
            self._end_pass(one_pass)
        except (KerastlError, tf.errors.OpError) as error:
            self._failure = error
            raise

    def _end_pass(self, one_pass: _Pass) -> None:
        counted, first = len(one_pass.labels), len(self._first.labels)
        if counted != first:
            hint = " Its generator can be read only once: use dataset.cache()." if not counted else ""
            raise RunFailed(
                f"The dataset yields {pluralize(counted, 'image')} in this pass, but {first:,} in the first.{hint}"
            )
        if one_pass.checker and self._first.checker:
            changed = set(one_pass.checker.hashes) - set(self._first.checker.hashes)
            if changed and self._is_constant:
                print_status(
                    f"Warning: {len(changed):,} of {pluralize(counted, 'image')} differ from those of the first pass, so that "
                    "the scores are random. Do not augment validation or test images."
                )
        self.records = one_pass.records()
        self._take_labels()

    def explain(self, error: Exception) -> KerastlError:
        """Return the error that the dataset raised."""
        original = self._failure or error
        if isinstance(original, KerastlError):
            return original
        reason = first_line(original).partition("}} ")  # the node of the graph comes first
        return RunFailed(f"The tf.data.Dataset raised an error: {reason[2] or reason[0]}")

    def _load_one(self, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:  # noqa: ARG002
        raise RequestError(f"The images of a tf.data.Dataset cannot be read by their index. {INDEXED}")


def as_image_dataset(
    name: str,
    images: Any,
    *,
    class_names: Sequence[str] | None,
    is_training: bool = False,
    image_size_px: Size | None = None,
    window: Any = "auto",
    **options: Any,
) -> ImageDataset:
    """Return any supported data as an `ImageDataset`.

    Args:
        name: Name of the argument, for messages.
        images: An `ImageDataset`, a `Collection`, a batched `tf.data.Dataset` of `(x, y)`, a pair of arrays `(x, y)`, or
            an array of unlabeled images.
        class_names: Class names in the order of the logits. None uses those of a collection.
        is_training: Whether the images are shuffled, and may change from pass to pass.
        image_size_px: (height, width) that the images must have. None allows any. Those of a collection are resized.
        window: The window of a collection.
        **options: Options of `ImageDataset`.

    Raises:
        Problems: The images, their labels or an option are invalid.
        RequestError: The data are none of these, the class names are unknown, or an option has no effect.
    """
    if isinstance(images, ImageDataset):
        if options:
            given = ", ".join(f"{option}={value!r}" for option, value in options.items())
            raise RequestError(f"{name}: is an {type(images).__name__}. Set its options there: {given}.")
        return images
    if isinstance(images, Collection):
        assert image_size_px is not None
        return ImageDataset(
            images,
            class_names=class_names,
            image_size_px=image_size_px,
            shuffle=is_training,
            window=window,
            **options,
        )
    is_pair = isinstance(images, tuple | list) and len(images) == 2
    is_array = hasattr(images, "shape") and hasattr(images, "__array__")
    if not (is_pair or is_array or isinstance(images, tf.data.Dataset)):
        raise RequestError(
            f"{name}: must be a kerastl.ImageDataset, a Collection from kerastl.read_images, a batched tf.data.Dataset of "
            f"(x, y), or NumPy arrays (x, y), got {describe_value(images)}."
        )
    if class_names is None:
        raise RequestError(f"{name}: the model does not store class names. Pass class_names=[...].")
    try:
        if isinstance(images, tf.data.Dataset):
            if "batch_size" in options:
                raise RequestError(f"{name}: the dataset is batched already. Remove batch_size=.")
            dataset: ImageDataset = TfDataset(
                images, class_names=class_names, is_constant=not is_training, **options
            )
        else:
            pair = images if is_pair else (images, None)
            dataset = ArrayDataset(*pair, class_names=class_names, shuffle=is_training, **options)
    except Problems as error:
        raise Problems(name, error.problems, error.footer) from error
    if image_size_px not in (None, dataset.image_size_px):
        resize = f"tf.image.resize(x, {image_size_px})"
        advice = mapping(resize) if isinstance(images, tf.data.Dataset) else f"Use {resize}."
        message = (
            f"has images of {dataset.image_size_px} px, but the model takes {image_size_px} px. {advice}"
        )
        raise Problems(name, [Problem("x", message)])
    return dataset

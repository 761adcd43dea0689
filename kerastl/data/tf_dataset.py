"""Images of a `tf.data.Dataset` as an `ImageDataset`, and the conversion of all data that Python code can pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
import tensorflow as tf

from kerastl.console import print_status
from kerastl.data.array_dataset import (
    NOT_PIXELS,
    ArrayDataset,
    PixelChecker,
    encode_labels,
    mapping,
    shape_problem,
)
from kerastl.data.dataset import ImageDataset, prefetched, refuse_resize
from kerastl.data.records import Collection, Record, as_names, check_class_list
from kerastl.errors import (
    KerastlError,
    Problem,
    Problems,
    RequestError,
    RunFailed,
    first_line,
    pluralize,
    raise_problems,
)
from kerastl.image_size import Resize, Size
from kerastl.options import describe_value

Images: TypeAlias = ImageDataset | Collection | tf.data.Dataset | tuple[Any, Any]
"""Images with labels, in any form that `as_image_dataset` takes."""
NESTED = (Mapping, list, tuple)
Element = tuple[tf.Tensor, Any, Any]
INDEXED = "Use NumPy arrays, or a kerastl.ImageDataset."
WHOLE = "tf.data.Dataset"
NO_WEIGHTS = "Sample weights are not supported; Phase(class_weights=...) weights classes."
SHUFFLED = 0.2
"""Minimum ratio of label changes between successive images to those in a random order, for a shuffled dataset."""
MIN_IMAGES = 20


def _element_problems(dataset: tf.data.Dataset) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the elements of a dataset, as far as it is known before they are read."""
    spec = dataset.element_spec
    parts = [spec] if isinstance(spec, tf.TypeSpec) else [*spec]
    is_row = isinstance(spec, Mapping)
    if is_row or not 1 <= len(parts) <= 2:
        image, label = [*map(repr, parts), "'label'"][:2]
        content = (
            f"the keys {parts}, but needs (x, y)."
            if is_row
            else f"{len(parts)} parts, but needs (x, y). {NO_WEIGHTS}"
        )
        rows = f"row: (row[{image}], row[{label}])" if is_row else "x, y, *rest: (x, y)"
        yield WHOLE, f"has elements with {content} Use dataset.map(lambda {rows})."
        return
    named = dict(zip("xy", parts, strict=False))
    invalid = {name: part for name, part in named.items() if not isinstance(part, tf.TensorSpec)}
    for name, part in invalid.items():
        advice = "Resize the images before batching." if name == "x" else "Use one label per image."
        if isinstance(part, NESTED):
            advice = f"Use dataset.map(lambda {', '.join(named)}: ({', '.join(map(_first_tensor, named, parts))}))."
        yield name, f"must be one tensor, got {describe_value(part)}. {advice}"
    if invalid:
        return
    x, y = parts[0], parts[-1]
    if not (x.dtype.is_floating or x.dtype.is_integer):
        yield "x", f"{NOT_PIXELS}, got values of type {x.dtype.name}. For files, use kerastl.read_images."
    elif x.shape.rank is not None and (message := shape_problem(x.shape, "tf")):
        is_single = x.shape.rank == 3 and (y.shape.rank == 0 or x.shape[-1] in (1, 3, 4))
        yield "x", "has single images. Use dataset.batch(32)." if is_single else message
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        yield WHOLE, "is infinite. Remove .repeat(), or use dataset.take(STEPS)."


def _first_tensor(name: str, part: Any) -> str:
    """Return the code that selects one tensor of a part of an element."""
    key = next(iter(part), None) if isinstance(part, Mapping) else 0
    return f"{name}[{key!r}]" if isinstance(part, NESTED) else name


def _class_names_problem(dataset: tf.data.Dataset, class_names: Sequence[str]) -> str | None:
    """Return how the class names that Keras stored in a dataset differ from those of the logits, or None.

    Keras stores the indices "0", "1" and so on if it received the labels as numbers.
    """
    own, names = _own_class_names(dataset), list(class_names)
    if own in (None, names):
        return None
    if own == [str(index) for index in range(len(own))] and not {*own} & {*names}:
        return None
    remedy = ""
    if set(own) == set(names):
        remedy = f" Create the dataset with class_names={names}."
    elif set(own) < set(names):
        remedy = f" Use kerastl.read_images(FOLDER) with class_names={names}, or add an empty folder for each missing class."
    return (
        f"are {names}, but the labels of the dataset are indices into its own class_names, {own}. They must be equal and in "
        f"the same order.{remedy}"
    )


def _own_class_names(images: Any) -> Any:
    """Return the class names that images of any form have, or None. Datasets of Keras have an attribute."""
    names = as_names(getattr(images, "class_names", None))
    return list(names) if names and isinstance(names, list | tuple) else None


def _is_sorted(classes: Sequence[int]) -> bool:
    """Return whether successive labels differ much less often than in a random order."""
    labels = np.array(classes)
    fractions = np.unique(labels, return_counts=True)[1] / len(labels)
    is_long = len(labels) >= MIN_IMAGES
    return bool(is_long and np.mean(labels[1:] != labels[:-1]) < SHUFFLED * (1 - (fractions**2).sum()))


class _Pass:
    """One pass over a dataset, which checks its batches.

    Args:
        class_names: Class names in the order of the logits.
        is_labeled: Whether to read the labels. Otherwise, each is -1.
        first: The first pass; None if this is the first pass.

    Attributes:
        labels, checker: Labels and hashes of the images so far.
        num_new: Number of images that the first pass did not have.
    """

    def __init__(self, class_names: Sequence[str], is_labeled: bool, first: _Pass | None = None) -> None:
        self.class_names, self.is_labeled = class_names, is_labeled
        self.size: Size | None = first.size if first else None
        self.checker, self.labels, self.steps, self.num_new = PixelChecker(), list[int](), 0, 0
        self._num_known = len(first.labels) if first else 0
        self._known = defaultdict[str, list[int]](list)
        for index, digest in reversed([*enumerate(first.checker.hashes if first else ())]):
            self._known[digest].append(index)

    def read(self, source: tf.data.Dataset) -> Iterator[Element]:
        """Yield batches of images float32, labels int32 and indices int64.

        An image keeps the index of the first pass, whatever its position. New images follow the known ones.
        """
        for element in prefetched(source):
            x, *rest = element if isinstance(element, tuple) else (element,)
            images, labels = self._checked(x, rest[0] if self.is_labeled else None)
            if len(labels):
                self.steps += 1
                self.labels += labels.tolist()
                yield (
                    images,
                    labels,
                    np.array([*map(self._index, self.checker.add(images.numpy()))], np.int64),
                )
        message = self.checker.problem() if self.steps else None
        raise_problems("The dataset", [Problem("x", message)] if message else [])

    def _index(self, digest: str) -> int:
        if indices := self._known[digest]:
            return indices.pop()  # copies have one index each
        self.num_new += 1
        return self._num_known + self.num_new - 1

    def _checked(self, x: tf.Tensor, y: Any) -> tuple[tf.Tensor, Any]:
        """Return the images and labels of a batch.

        Raises:
            Problems: They are not images of one size, or not labels.
        """
        problems, batch = [], f"batch {self.steps + 1}"
        message = shape_problem(x.shape, "tf")
        size = tuple(x.shape[1:3])
        if not message and size != (self.size or size):
            message = f"has images of {size}, but other batches have images of {self.size}. Resize them."
        if message:
            problems.append(Problem(f"{batch}, x", message))
        labels = np.full(len(x), -1, np.int32)
        try:
            labels = encode_labels(y.numpy(), self.class_names) if self.is_labeled else labels
            if len(labels) != len(x):
                raise RequestError(f"has {len(labels)} labels, but x has {len(x)} images.")
        except RequestError as error:
            problems.append(Problem(f"{batch}, y", str(error)))
        raise_problems("The dataset", problems)
        self.size = size
        with tf.device("CPU:0"):
            return tf.cast(x, tf.float32), labels

    def records(self) -> tuple[Record, ...]:
        """Return one record per image, in the order of the pass."""
        names = [None if label < 0 else self.class_names[label] for label in self.labels]
        return tuple(
            Record(f"dataset[{index}]", Path(digest), label, sha256=digest)
            for index, (digest, label) in enumerate(zip(self.checker.hashes, names, strict=True))
        )


class TfDataset(ImageDataset):
    """An `ImageDataset` of a batched `tf.data.Dataset` of `(x, y)`. It is read once to count and check its images.

    An epoch is one pass over the dataset, in its own order. What depends on positions in the dataset is not
    available: training on several devices, caches of frozen layers, and an exact resume. Resumed training starts a new
    pass, so the order of a dataset that shuffles differs from that of uninterrupted training.

    Args:
        dataset: Batches `(x, y)`: images `[batch, height, width, 3]` with values in [0, 255], of any numeric type, and
            labels: class indices `[batch]` or `[batch, 1]`, one-hot rows or class names. Without labels, batches `x`.
        class_names: Class names in the order of the logits. They must be those of the attribute `class_names`, which the
            datasets of `keras.utils.image_dataset_from_directory` have.
        is_constant: Whether each pass must yield the same images, in any order, as for validation and testing.
        **options: `augment`, `mix`, `placement` and `seed` of `ImageDataset`.

    Attributes:
        records, labels: Those of the first pass, in its order. An image has the same index in each pass.

    Raises:
        Problems: The dataset is not batched, is infinite, or has other elements than `(x, y)`; its images or labels
            are invalid; or it has other class names.
        RequestError: It has no images.
        RunFailed: It raises an error, or a pass yields different images.

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
        refuse_resize(options)
        class_names = as_names(class_names)
        problems = check_class_list(class_names, least=1)
        if not problems and (message := _class_names_problem(dataset, class_names)):
            problems.append(Problem("class_names", message))
        raise_problems(
            "The dataset", [*problems, *(Problem(*problem) for problem in _element_problems(dataset))]
        )
        if dataset.cardinality() == tf.data.UNKNOWN_CARDINALITY:
            print_status(
                "Counting the batches of the dataset. If this does not end, use dataset.take(STEPS)."
            )
        self._source, self._is_constant = dataset, is_constant
        self._failure: Exception | None = None
        self._is_labeled = isinstance(dataset.element_spec, tuple) and len(dataset.element_spec) == 2
        first = self._first = _Pass(class_names, self._is_labeled)
        try:
            sizes = [len(labels) for _, labels, _ in first.read(dataset)]
        except tf.errors.OpError as error:
            raise self.explain(error) from error
        raise_problems("The dataset", [] if sizes else [Problem(WHOLE, "has no images.")])
        options |= {"image_size_px": first.size, "batch_size": max(sizes), "shuffle": False}
        super().__init__(first.records(), class_names=class_names, **options)
        self.resize = None
        self.steps_per_epoch, self.repeats, self.has_fingerprint = len(sizes), False, False
        if self.mixes and not self._is_labeled:
            raise RequestError("The images are unlabeled. Mixing requires labels.")
        if not is_constant and _is_sorted(first.labels):
            print_status(
                "Warning: the images are sorted by class and not shuffled, so the classes differ from batch to batch. Shuffle "
                "them before batching: dataset.unbatch().shuffle(10_000).batch(32)"
            )

    def with_own_order(self, *, labeled: bool) -> TfDataset:
        """Return a copy, without labels unless `labeled`. Its order is that of the dataset."""
        other: Any = super().with_own_order(labeled=labeled)
        other._is_labeled = labeled and self._is_labeled
        return other

    def _batches_of(self, indices: Any) -> tf.data.Dataset:  # noqa: ARG002 - each pass is the next one
        return self._labeled_batches(0, 0, (0, 1))

    def _labeled_batches(self, epoch: int, first_step: int, shard: tuple[int, int]) -> tf.data.Dataset:  # noqa: ARG002 - each pass is the next one
        if shard != (0, 1):
            raise RequestError(f"A tf.data.Dataset cannot be divided among devices. {INDEXED}")
        images = tf.TensorSpec([None, *self.image_size_px, 3])
        labels, indices = tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.int64)
        return tf.data.Dataset.from_generator(
            lambda: islice(self._next_pass(), first_step, None), output_signature=(images, labels, indices)
        )

    def _next_pass(self) -> Iterator[Element]:
        """Yield the batches of one pass. TensorFlow replaces errors, so the original is kept."""
        self._failure = None
        one_pass = _Pass(self.class_names, self._is_labeled, self._first)
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
        if one_pass.num_new and self._is_constant:
            raise RunFailed(
                f"{one_pass.num_new:,} of {pluralize(counted, 'image')} of the dataset differ from those of the first pass, so "
                "scores would be random. Do not augment validation or test images."
            )

    def explain(self, error: Exception) -> KerastlError:
        """Return the error that the dataset raised."""
        original = self._failure or error
        if isinstance(original, KerastlError):
            return original
        reason = first_line(original).partition("}} ")  # the node of the graph comes first
        return RunFailed(f"The tf.data.Dataset raised an error: {reason[2] or reason[0]}")

    def _load_one(self, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:  # noqa: ARG002
        raise RequestError(f"The images of a tf.data.Dataset cannot be read by index. {INDEXED}")


def as_image_dataset(
    name: str,
    images: Any,
    *,
    class_names: Sequence[str] | None,
    is_training: bool = False,
    image_size_px: Size | None = None,
    resize: Resize = "stretch",
    **options: Any,
) -> ImageDataset:
    """Return any supported data as an `ImageDataset`.

    Args:
        name: Name of the argument, for messages.
        images: An `ImageDataset`, a `Collection`, a batched `tf.data.Dataset` of `(x, y)`, a pair of arrays `(x, y)`, or
            an array of unlabeled images.
        class_names: Class names in the order of the logits. None uses those of a collection, or the attribute `class_names`
            of a dataset of Keras.
        is_training: Whether the images are shuffled, and may change from pass to pass.
        image_size_px: (height, width) that the images must have. None allows any. Those of a collection are resized.
        resize: The resize rule of a collection.
        **options: Options of `ImageDataset`.

    Raises:
        Problems: The images, their labels or an option are invalid.
        RequestError: The data has none of these types, the class names are unknown, or an option has no effect.
    """
    if isinstance(images, ImageDataset):
        if options:
            given = ", ".join(f"{option}={value!r}" for option, value in options.items())
            raise RequestError(
                f"{name}: is already an {type(images).__name__}. Set the options when you create it: {given}."
            )
        return images
    is_pair = isinstance(images, tuple | list) and len(images) == 2
    is_array = hasattr(images, "shape") and hasattr(images, "__array__")
    if isinstance(images, tuple) and len(images) == 3:
        raise RequestError(f"{name}: has 3 parts, but must be NumPy arrays (x, y). {NO_WEIGHTS}")
    if not (is_pair or is_array or isinstance(images, tf.data.Dataset | Collection)):
        is_path = isinstance(images, str | Path)
        hint = f" Read it first: kerastl.read_images({str(images)!r})." if is_path else ""
        raise RequestError(
            f"{name}: must be a kerastl.ImageDataset, a Collection from kerastl.read_images, a batched tf.data.Dataset of "
            f"(x, y), or NumPy arrays (x, y), got {describe_value(images)}.{hint}"
        )
    class_names = _own_class_names(images) if class_names is None else class_names
    if class_names is None:
        raise RequestError(f"{name}: the model does not store class names. Pass class_names=[...].")
    if isinstance(images, Collection):
        options |= {"image_size_px": image_size_px, "resize": resize, "shuffle": is_training}
        return ImageDataset(images, class_names=class_names, **options)
    is_tf = isinstance(images, tf.data.Dataset)
    if is_tf and "batch_size" in options:
        raise RequestError(f"{name}: the dataset is already batched. Remove batch_size=.")
    try:
        pair = images if is_pair else (images, None)
        dataset: ImageDataset = (
            TfDataset(images, class_names=class_names, is_constant=not is_training, **options)
            if is_tf
            else ArrayDataset(*pair, class_names=class_names, shuffle=is_training, **options)
        )
    except Problems as error:
        raise Problems(name, error.problems, error.footer) from error
    if image_size_px not in (None, dataset.image_size_px):
        code = f"tf.image.resize(x, {image_size_px})"
        advice = mapping(code) if is_tf else f"Use {code}."
        message = (
            f"has images of {dataset.image_size_px} px, but the model takes {image_size_px} px. {advice}"
        )
        raise Problems(name, [Problem("x", message)])
    return dataset

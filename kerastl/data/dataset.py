"""Image datasets that yield reproducible epochs.

The order of an epoch is a permutation from (seed, epoch). An epoch can start at any step without reading the
images of earlier steps. Functions in the pipeline are traced once for all epochs.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import tensorflow as tf
from annotated_types import Ge

from kerastl import recipe as recipes
from kerastl.augment import build_policy, named_policy
from kerastl.augment.stateless_random import hash_combine
from kerastl.console import track
from kerastl.data.convert import UnreadableError, read_content
from kerastl.data.decode import MAX_PIXELS, Window, traced_loader
from kerastl.data.records import Collection, Record, as_names, check_class_list, hash_contents
from kerastl.data.validate import check_content
from kerastl.data.window import training_window
from kerastl.errors import (
    KerastlError,
    Problem,
    RequestError,
    RunFailed,
    first_line,
    pluralize,
    suggest_arguments,
)
from kerastl.image_size import Resize, Size, as_size, format_size, plain_size
from kerastl.options import StrictModel, check_arguments, checked, describe_value
from kerastl.tasks import SINGLE_LABEL

no_autograph = tf.autograph.experimental.do_not_convert
"""Skips AutoGraph for functions of TensorFlow operations, because converting them is slower than tracing."""


@contextmanager
def report_unreadable(dataset: Any) -> Iterator[None]:
    """Convert any error of an input pipeline to a `RunFailed` that names the file that cannot be read.

    Args:
        dataset: The `ImageDataset` that the `with` block reads.
    """
    try:
        yield
    except tf.errors.OpError as error:
        raise dataset.explain(error) from error


def prefetched(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Return a deterministic dataset with prefetching and without automatic sharding."""
    options = tf.data.Options()
    options.deterministic = True
    # The training loop shards batches itself. Sharding twice would drop images.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)


def seeds_for(seed: int, epoch: Any, indices: Any) -> Any:
    """Return a stateless seed for each example of an epoch, in a TensorFlow graph or eagerly.

    The three numbers are hashed in turn with the finalizer of SplitMix64, so that similar inputs give unrelated seeds.

    Args:
        seed: Seed of the run.
        epoch: Scalar int64, from 0.
        indices: `[batch]` int64 indices of the examples.

    Returns:
        `[batch, 2]` int32 seeds.

    Reference:
        Steele, Lea & Flood 2014, doi 10.1145/2660193.2660195, figure 16.
    """
    state = hash_combine(tf.zeros([], tf.uint64), tf.constant(seed, tf.int64))
    state = hash_combine(state, tf.cast(epoch, tf.int64))
    return tf.bitcast(hash_combine(state, tf.cast(indices, tf.int64)), tf.int32)


def _check_records(records: Any, class_names: Any, mix: Any) -> list[Problem]:
    """Return the problems of the arguments that have no recipe key."""
    problems = []
    if not isinstance(records, list | tuple) or not all(isinstance(record, Record) for record in records):
        message = f"must be a Collection or a list of records, got {describe_value(records)}."
        problems.append(Problem("records", message))
    if mix is not None and not callable(mix):
        problems.append(Problem("mix", f"must be a function of `build_mixing`, got {describe_value(mix)}."))
    problems += check_class_list(class_names, least=1)
    if problems:
        return problems
    labels = Counter(record.label for record in records if record.label is not None)
    classes = f"which is not in {list(class_names)}."
    return [
        Problem("records", f"{pluralize(count, 'image')} of class {label!r}, {classes}")
        for label, count in labels.items()
        if label not in class_names
    ]


def _call(
    name: str, function: Callable[..., Any], *given: tf.Tensor, shapes: Sequence[Any]
) -> list[tf.Tensor]:
    """Return what a function of the user returns: float32 tensors of these shapes.

    Raises:
        RequestError: It returns something else, or raises any error.
    """
    try:
        results = function(*given)
        results = [
            tf.convert_to_tensor(result, tf.float32) for result in (results if len(shapes) > 1 else [results])
        ]
        return [tf.ensure_shape(result, shape) for result, shape in zip(results, shapes, strict=True)]
    except Exception as error:
        wanted = " and ".join(f"{shape} float32" for shape in shapes)
        raise RequestError(f"{name}: the function does not return {wanted}. {first_line(error)}") from error


Policy = Callable[[Any, Any], Any]
Mixer = Callable[[Any, Any, Any], tuple[Any, Any]]
Indices = np.ndarray[Any, np.dtype[np.int64]]
Count = Annotated[int, Ge(0)]
NO_INDICES = np.zeros(0, np.int64)
CACHE_BATCH = 64


@no_autograph
def _without_indices(images: tf.Tensor, labels: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return images, labels


def refuse_resize(options: Mapping[str, Any]) -> None:
    """Raise RequestError if the options of a dataset of images that have one size contain a resize rule."""
    if "resize" in options:
        raise RequestError("resize: has no effect, because the images are resized already. Remove resize=.")


def _window_is_not_empty(options: WindowOptions) -> Iterator[tuple[str, str]]:
    if isinstance(options.window, tuple) and not options.window[0] < options.window[1]:
        yield "window", f"must have low < high, got {options.window}."


class WindowOptions(StrictModel):
    """The window of 16-bit images and the largest image, with the types and ranges of the recipe."""

    RULES: ClassVar = (_window_is_not_empty,)
    window: Literal["auto", "full"] | recipes.Window | tuple[float, float] | None
    max_pixels: recipes.MaxPixels = MAX_PIXELS

    @property
    def fixed_window(self) -> Window | None:
        """The window, unless it is `auto`. None is the full range."""
        if isinstance(self.window, recipes.Window):
            return self.window.limits
        return self.window if isinstance(self.window, tuple) else None


class DatasetOptions(WindowOptions):
    """Options of an `ImageDataset`."""

    image_size_px: recipes.AnyImageSize
    resize: Resize
    batch_size: recipes.BatchSize
    seed: recipes.Seed
    shuffle: bool
    placement: Literal["host", "device"]
    cache: Literal["memory", "none"]
    views: recipes.Views | None
    drop_remainder: bool
    parallel_calls: Annotated[int, Ge(1)] | None


class ImageDataset:
    """Dataset of labeled images that yields reproducible epochs of batches.

    Args:
        records: Records of the images, or a `Collection`. The position of a record is the index of its image.
        class_names: Class names. Labels are indices into them, -1 for unlabeled images. None takes those of the
            collection.
        image_size_px: Side length of the images, or (height, width), in pixels.
        resize: How images with a different aspect ratio are resized: `stretch`, `pad` (the whole image on black) or
            `crop` (the center of the image).
        batch_size: Number of images in a batch, summed over all shards. The last batch may be smaller.
        window: Window of 16-bit grayscale images: `auto` (0.5th to 99.5th percentile of the stored values of the
            training split), `full` or None (0 to 65535), `(low, high)` in stored values, or
            `{"center": ..., "width": ...}`. For a split of a collection, `auto` uses the training split of that
            collection, so that all splits have the same window. For a list of records, it uses those with the split
            `train`, or all if there are none.
        max_pixels: Maximum height times width of a stored image. Larger images raise an error.
        seed: Seed of the order and, together with the epoch, of the augmentation.
        shuffle: Whether to shuffle the images in each epoch.
        augment: Name of a policy, list of operations, or function of images `[batch, height, width, 3]` float32 in [0, 255]
            and seeds `[batch, 2]` int32 that returns augmented images.
        mix: Function of augmented images, labels `[batch]` int32 and seeds that returns mixed images and labels
            `[batch, classes]` float32. It mixes the rows of a batch, or of a shard's part of it, so its result
            depends on the number of shards.
        placement: Where `augment` and `mix` run: `host` in the tf.data pipeline of `indexed_batches`, or `device` in
            the training step, which takes `plain_batches` and calls `finish`. The images are the same.
        cache: `memory` keeps the decoded and resized images in host memory, filled on first use.
        views: Number of different augmentations per image. Epoch `e` shows view `e % views`. None shows a new one in
            every epoch.
        drop_remainder: Whether to drop a smaller last batch.
        parallel_calls: Number of images that are decoded in parallel. None lets tf.data choose. The images do not
            depend on it.

    Attributes:
        num_examples: Number of images.
        image_size_px: (height, width) of the images.
        resize: The rule by which images are resized. None for images that are already resized.
        has_auto_window: Whether `window` is `auto`.
        steps_per_epoch: Number of batches in an epoch.
        labels: `[num_examples]` int32.
        mixes: Whether batches have mixed labels.
        augmented: Whether images are augmented.
        repeats: Whether a later epoch shows the images of an earlier one.
        views: Number of different images per record. 1 without augmentation or without repetition.
        has_fingerprint: Whether `fingerprint` is available: `augment` is None or a policy of `build_policy`.
        finish: Function of `(images, labels, indices)` from `plain_batches` and the epoch, a scalar int64, that
            returns a batch of `indexed_batches`.

    Raises:
        Problems: An argument has a wrong type or is out of range, or an image has a label that is not a class.
        RequestError: `mix` is given and some images are unlabeled.
    """

    @suggest_arguments
    def __init__(
        self,
        records: Sequence[Record] | Collection,
        *,
        class_names: Sequence[str] | None = None,
        image_size_px: int | Size,
        resize: Resize = "stretch",
        batch_size: int = 32,
        window: Literal["auto", "full"] | Window | Mapping[str, float] | None = "auto",
        max_pixels: int = MAX_PIXELS,
        seed: int = 0,
        shuffle: bool = True,
        augment: Policy | str | Sequence[Any] | None = None,
        mix: Mixer | None = None,
        placement: Literal["host", "device"] = "host",
        cache: Literal["memory", "none"] = "none",
        views: int | None = None,
        drop_remainder: bool = False,
        parallel_calls: int | None = None,
    ) -> None:
        training: Sequence[Record] = ()
        if isinstance(records, Collection):
            class_names = records.class_names if class_names is None else class_names
            training, records = records.training, records.records
        class_names = as_names(class_names)
        problems = _check_records(records, class_names, mix)
        options = check_arguments("The ImageDataset", DatasetOptions, locals(), problems)
        size = as_size(options.image_size_px)
        if augment is not None and not callable(augment):
            operations = named_policy(augment) if isinstance(augment, str) else augment
            is_empty = isinstance(operations, list | tuple) and not operations
            augment = None if is_empty else build_policy(operations, image_size_px=size)
        other = getattr(augment, "image_size_px", None) or size
        if other != size:
            raise RequestError(
                f"augment: is a policy for images of {format_size(other)}. Use image_size_px={plain_size(other)}."
            )
        self.records = tuple(records)
        self.class_names = tuple(class_names or ())
        self.num_examples = len(self.records)
        self.image_size_px, self.batch_size = size, options.batch_size
        self.resize: Resize | None = options.resize
        whole, rest = divmod(self.num_examples, self.batch_size)
        self.steps_per_epoch = whole + (1 if rest and not drop_remainder else 0)
        self.has_auto_window, self._fixed_window = options.window == "auto", options.fixed_window
        self._training = training or [record for record in self.records if record.split == "train"]
        self.max_pixels = options.max_pixels
        self.seed, self.shuffle, self.cache = options.seed, shuffle, cache
        self._take_labels()
        self.mixes, self.placement, self.drop_remainder = mix is not None, placement, drop_remainder
        self._augment: Any = augment
        self._mix = mix
        self.augmented = augment is not None
        self.has_fingerprint = augment is None or hasattr(augment, "fingerprint")
        self.repeats = views is not None or not (self.augmented or self.mixes)
        self.views = views if views is not None and self.augmented else 1
        unlabeled = int((self.labels == SINGLE_LABEL.unlabeled).sum())
        if self.mixes and unlabeled:
            raise RequestError(
                f"{unlabeled:,} of {self.num_examples:,} images are unlabeled. Mixing requires labels."
            )
        self._parallel_calls, self._stream = parallel_calls or tf.data.AUTOTUNE, 0
        with tf.device("CPU:0"):
            self._files = tf.constant([str(record.file) for record in self.records], tf.string)
        self._forget_images()
        self.finish = tf.function(self._finish, autograph=False)

    def __repr__(self) -> str:
        is_set = (self.shuffle, self.augmented, self.mixes, self.cache == "memory")
        options = itertools.compress(("shuffle", "augment", "mix", "cache"), is_set)
        size = format_size(self.image_size_px)
        return (
            f"<{type(self).__name__}: {self.num_examples:,} images of {size}, {len(self.class_names)} classes, "
            f"batch size {self.batch_size}{''.join(f', {name}' for name in options)}>"
        )

    def _forget_images(self) -> None:
        self._images = list[tf.Tensor]()
        self._load = tf.function(self._load_one, autograph=False)

    @cached_property
    def window(self) -> Window | None:
        """(low, high) in stored values of 16-bit grayscale images, None for the full range or without such images."""
        if not self.has_auto_window:
            return self._fixed_window
        with report_unreadable(self):
            return training_window(self._training or self.records)

    def with_window(self, window: Window | None) -> ImageDataset:
        """Return a copy with a fixed window, for example that of a trained model."""
        other = copy.copy(self)
        other.__dict__.pop("window", None)
        other.has_auto_window, other._fixed_window = False, window
        other._forget_images()
        return other

    def order(self, epoch: int) -> Indices:
        """Return the order of an epoch: `[num_examples]` int64 indices."""
        if not self.shuffle:
            return np.arange(self.num_examples, dtype=np.int64)
        key = np.array([self.seed, epoch + (self._stream << 32)], np.uint64)
        return np.random.Generator(np.random.Philox(key=key)).permutation(self.num_examples).astype(np.int64)

    def with_own_order(self, *, labeled: bool) -> ImageDataset:
        """Return a copy with another order, for training on two datasets in parallel.

        Without it, two datasets of the same seed and size would pair images by their indices.

        Args:
            labeled: Whether to keep the labels. False sets all labels to -1.
        """
        other = copy.copy(self)
        other._stream = self._stream + 1
        if not labeled:
            other.records = tuple(replace(record, label=None) for record in self.records)
            other._take_labels()
        return other

    def _take_labels(self) -> None:
        self.labels = SINGLE_LABEL.encode([record.label for record in self.records], self.class_names)
        with tf.device("CPU:0"):
            self._labels = tf.constant(self.labels)

    @checked
    def steps(self, epoch: Count, first_step: Count = 0, shard: tuple[Count, int] = (0, 1)) -> list[Indices]:
        """Return the indices of each batch of an epoch. The arguments are those of `batches`."""
        order, size = self.order(epoch), self.batch_size
        index, count = shard
        if index >= count:
            raise RequestError(f"shard: must be (index, count) with an index below the count, got {shard}.")
        return [
            order[step * size : (step + 1) * size][index::count]
            for step in range(first_step, self.steps_per_epoch)
        ]

    def batches(self, epoch: int, first_step: int = 0, shard: tuple[int, int] = (0, 1)) -> tf.data.Dataset:
        """Return one epoch as `(images, labels)`, which `keras.Model.fit` and `evaluate` take.

        Args:
            epoch: Number of the epoch, from 0.
            first_step: Number of batches to skip. Their files are not read.
            shard: `(index, count)` selects the rows index, index + count, ... of each batch. All shards have the same
                number of batches, so the last batch of a shard may be empty.

        Returns:
            Elements `(images, labels)`: images `[b, height, width, 3]` float32 in [0, 255], labels `[b]` int32, or
            `[b, classes]` float32 with `mix`. When a file cannot be read, iterating raises a `tf.errors.OpError`;
            pass it to `explain`.
        """
        return self.indexed_batches(epoch, first_step, shard).map(_without_indices)

    def indexed_batches(
        self, epoch: int, first_step: int = 0, shard: tuple[int, int] = (0, 1)
    ) -> tf.data.Dataset:
        """Return one epoch as `(images, labels, indices)`, for training loops that identify each image.

        This is not for Keras: `keras.Model.fit` reads a third element as sample weights. Use `batches` or
        `as_tf_dataset` there.

        Args:
            epoch, first_step, shard: As in `batches`.

        Returns:
            Elements `(images, labels, indices)`: images and labels as in `batches`, indices `[b]` int64.
        """
        return prefetched(
            self._finished(self._labeled_batches(epoch, first_step, shard), tf.constant(epoch, tf.int64))
        )

    def as_tf_dataset(self, epoch: int | None = None) -> tf.data.Dataset:
        """Return a dataset of `(images, labels)` for `keras.Model.fit`.

        Args:
            epoch: Epoch that every pass shows. If None, each pass shows the next epoch, from 0, with its own order and
                augmentation. A pass that stops early counts.

        Returns:
            Elements as in `batches`. The cardinality is `steps_per_epoch`.

        Example:
        ```python
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(dataset.as_tf_dataset(), epochs=3)
        ```
        """
        if epoch is not None:
            return self.batches(epoch)
        if self.cache == "memory":
            self._cached_images()  # outside the graph of `one_pass`
        passes = itertools.count()

        def next_epoch() -> Iterator[tuple[Indices, int]]:
            number = next(passes)
            yield np.concatenate([NO_INDICES, *self.steps(number)]), number

        def one_pass(indices: tf.Tensor, number: tf.Tensor) -> tf.data.Dataset:
            return self._finished(self._batches_of(indices), number).map(_without_indices)

        dataset = tf.data.Dataset.from_generator(
            next_epoch, output_signature=(tf.TensorSpec([None], tf.int64), tf.TensorSpec([], tf.int64))
        ).flat_map(no_autograph(one_pass))
        return prefetched(dataset.apply(tf.data.experimental.assert_cardinality(self.steps_per_epoch)))

    def _batches_of(self, indices: tf.Tensor) -> tf.data.Dataset:
        """Return the batches of one pass over the given indices."""
        return self._with_labels(self.select(indices, self.batch_size))

    def plain_batches(
        self, epoch: int, first_step: int = 0, shard: tuple[int, int] = (0, 1)
    ) -> tf.data.Dataset:
        """Return what `indexed_batches` returns before augmentation and mixing; labels are `[b]` int32."""
        return prefetched(self._labeled_batches(epoch, first_step, shard))

    def _labeled_batches(self, epoch: int, first_step: int, shard: tuple[int, int]) -> tf.data.Dataset:
        indices = np.concatenate([NO_INDICES, *self.steps(epoch, first_step, shard)])
        index, count = shard
        rows = len(range(index, self.batch_size, count))
        steps = self.steps_per_epoch - first_step
        dataset = self.select(indices, rows)
        if steps * rows - len(indices) >= rows and steps > 0:
            no_images = np.zeros((0, *self.image_size_px, 3), np.float32)
            dataset = dataset.concatenate(tf.data.Dataset.from_tensors((no_images, NO_INDICES)))
        return self._with_labels(dataset)

    def _with_labels(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """Add the labels to what `select` returns."""
        return dataset.map(
            no_autograph(lambda images, indices: (images, tf.gather(self._labels, indices), indices))
        )

    def _finished(self, dataset: tf.data.Dataset, epoch: tf.Tensor) -> tf.data.Dataset:
        """Augment and mix labeled batches."""
        if not (self.augmented or self.mixes):
            return dataset
        return self._map(dataset, lambda images, labels, indices: self.finish(images, labels, indices, epoch))

    def _map(self, dataset: tf.data.Dataset, function: Callable[..., Any]) -> tf.data.Dataset:
        """Apply a function to several elements in parallel and keep their order."""
        return dataset.map(
            no_autograph(function), num_parallel_calls=self._parallel_calls, deterministic=True
        )

    def all_images(self, view: int, rows: int) -> tf.data.Dataset:
        """Return all images in index order, augmented as in epoch `view`. Elements are those of `plain_batches`."""
        number = tf.constant(view, tf.int64)
        labeled = self._with_labels(self.select(np.arange(self.num_examples), rows))
        return prefetched(
            self._map(labeled, lambda images, *rest: (self._augmented(images, rest[-1], number), *rest))
        )

    def fingerprint(self) -> str:
        """Return the SHA-256 of the image files and of all settings that affect the images.

        Raises:
            RequestError: `augment` is not a policy of `build_policy`.
        """
        if not self.has_fingerprint:
            raise RequestError("A fingerprint requires an augmentation policy of `build_policy`.")
        settings: dict[str, Any] = {
            "size": plain_size(self.image_size_px), "resize": self.resize, "window": self.window, "max_pixels": self.max_pixels,
            "files": self._content_hashes(),
        }  # fmt: skip
        if self._augment is not None:
            settings |= {"augment": self._augment.fingerprint, "seed": self.seed, "views": self.views}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    def _content_hashes(self) -> list[str]:
        """Return the SHA-256 of each image."""
        return hash_contents([record.file for record in self.records])

    def explain(self, error: Exception) -> KerastlError:
        """Return an error that names the file that cannot be read, given the error that iteration raised."""
        for record in self.records:
            try:
                content = read_content(record.file, max_pixels=self.max_pixels)
                check_content(content, max_pixels=self.max_pixels)
            except UnreadableError as reason:
                return RunFailed(
                    f"{record.path} can no longer be read: {reason}. It was readable when the run started. "
                    f"File: {record.file}"
                )
        return RunFailed(f"All images can be read, but the input pipeline failed: {error}")

    def _load_one(self, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        content = tf.io.read_file(tf.gather(self._files, index))
        load = traced_loader(self.image_size_px, self.resize or "stretch", self.window, self.max_pixels)
        return load(content), index

    def _augmented(self, images: tf.Tensor, indices: tf.Tensor, epoch: tf.Tensor) -> tf.Tensor:
        """Augment images as in an epoch."""
        if self._augment is None:
            return images
        view = epoch % self.views if self.repeats else epoch
        seeds = seeds_for(self.seed, view, indices)
        return _call("augment", self._augment, images, seeds, shapes=[images.shape])[0]

    def _finish(
        self, images: tf.Tensor, labels: tf.Tensor, indices: tf.Tensor, epoch: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        images = self._augmented(images, indices, epoch)
        if self._mix is not None:
            seeds = seeds_for(self.seed, epoch, indices)
            shapes = [images.shape, (None, len(self.class_names))]
            images, labels = _call("mix", self._mix, images, labels, seeds, shapes=shapes)
        return images, labels, indices

    def _decoded(self, indices: Indices | tf.Tensor, rows: int) -> tf.data.Dataset:
        return self._map(tf.data.Dataset.from_tensor_slices(indices), self._load).batch(rows)

    def select(self, indices: Indices | tf.Tensor, rows: int) -> tf.data.Dataset:
        """Return the images of the given indices, in this order, without augmentation or mixing.

        Args:
            indices: `[n]` int64. Indices may repeat.
            rows: Batch size.

        Returns:
            Elements (images `[b, height, width, 3]` float32 in [0, 255], indices `[b]` int64).
        """
        if self.cache == "none":
            return self._decoded(indices, rows)
        images = self._cached_images()
        return (
            tf.data.Dataset.from_tensor_slices(indices)
            .batch(rows)
            .map(no_autograph(lambda batch: (tf.gather(images, batch), batch)))
        )

    def decode(self, indices: Indices) -> np.ndarray[Any, Any]:
        """Decode images from their files, without the cache.

        Args:
            indices: `[n]` int64. Indices may repeat.

        Returns:
            `[n, height, width, 3]` float32 in [0, 255].

        Raises:
            RunFailed: A file can no longer be read. The message names it.
        """
        images = np.empty((len(indices), *self.image_size_px, 3), np.float32)

        def load(row: int) -> None:
            with tf.device("CPU:0"):
                images[row] = self._load_one(tf.constant(indices[row]))[0]

        threads = None if self._parallel_calls == tf.data.AUTOTUNE else self._parallel_calls
        steps = range(0, len(indices), CACHE_BATCH)
        # Not with tf.data, which compiles the decoder for each iterator. The first call compiles it, in one thread.
        with report_unreadable(self), ThreadPoolExecutor(threads) as pool:
            if len(indices):
                load(0)
            for start in track(steps, "decoding images", len(steps)):
                list(pool.map(load, range(start, min(start + CACHE_BATCH, len(indices)))))
        return images

    def _cached_images(self) -> tf.Tensor:
        if not self._images:
            images = self.decode(np.arange(self.num_examples, dtype=np.int64))
            with tf.device("CPU:0"):
                self._images.append(tf.convert_to_tensor(images))
        return self._images[0]

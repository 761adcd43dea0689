"""Epochs of batches: a permutation of example indices from (seed, epoch), and a pipeline that starts from it.

Nothing is skipped by reading it: to begin in the middle of an epoch is to begin in the middle of the
permutation. The functions that the pipeline maps are traced once, whatever the number of epochs.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from kerastl.augment.stateless_random import mixed
from kerastl.console import track
from kerastl.data.decode import MAX_PIXELS, Window, traced_loader
from kerastl.data.records import UNLABELED, Record, description_of, hash_records, is_described, label_indices
from kerastl.data.validate import read_error
from kerastl.errors import KerastlError, RequestError, RunFailed

no_autograph = tf.autograph.experimental.do_not_convert
"""For functions of TensorFlow's operations alone: rewriting their source takes longer than tracing them."""


def prefetched(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Return a dataset that keeps its order, works ahead, and is divided by nobody else."""
    options = tf.data.Options()
    options.deterministic = True
    # The loop deals batches to its workers itself; a second division would lose images.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)


def empty_batch(image_size_px: int) -> tf.data.Dataset:
    """Return one batch of no image: images `[0, size, size, 3]` float32 and indices `[0]` int64."""
    images = np.zeros((0, image_size_px, image_size_px, 3), np.float32)
    return tf.data.Dataset.from_tensors((images, np.zeros(0, np.int64)))


def explain_read_error(
    error: Exception, records: Iterable[Record], *, window: Window | None, max_pixels: int
) -> RunFailed:
    """Return the error to raise when reading failed: it names the first file that is broken.

    Args:
        error: what iterating raised; told where every file can be read.
        records: of all images.
        window, max_pixels: as they are decoded.
    """
    for record in records:
        reason = read_error(record.file, window=window, max_pixels=max_pixels)
        if reason:
            return RunFailed(
                f"{record.path} can no longer be read: {reason}. It could when the run began. "
                f"Its file: {record.file}"
            )
    return RunFailed(f"The images can be read, but the pipeline failed: {error}")


def seeds_for(seed: int, epoch: Any, indices: Any) -> Any:
    """Return one seed for each example of an epoch, in a TensorFlow graph or eagerly.

    Each number is hashed in turn with the finaliser of SplitMix64, whose every input bit moves
    about half of the output bits: neighbours get seeds that have nothing to do with each other.

    Args:
        seed: of the run.
        epoch: scalar int64, from 0.
        indices: `[batch]` int64, numbers of the examples.

    Returns:
        `[batch, 2]` int32, a stateless seed for each example.

    Reference:
        Steele, Lea & Flood 2014, doi 10.1145/2660193.2660195, figure 16.
    """
    import tensorflow as tf

    state = mixed(tf.zeros([], tf.uint64), tf.constant(seed, tf.int64))
    state = mixed(state, tf.cast(epoch, tf.int64))
    return tf.bitcast(mixed(state, tf.cast(indices, tf.int64)), tf.int32)


def epoch_order(
    seed: int, epoch: int, num_examples: int, stream: int = 0
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the order of an epoch: `[num_examples]` int64, each index once, from (seed, stream, epoch) alone."""
    key = np.array([seed, epoch + (stream << 32)], np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).permutation(num_examples).astype(np.int64)


Policy = Callable[[Any, Any], Any]
Mixer = Callable[[Any, Any, Any], tuple[Any, Any]]
Indices = np.ndarray[Any, np.dtype[np.int64]]
NO_INDICES = np.zeros(0, np.int64)
FILL_BATCH = 64


@no_autograph
def _without_indices(
    images: tf.Tensor,
    labels: tf.Tensor,
    indices: tf.Tensor,  # noqa: ARG001 - an element's third part
) -> tuple[tf.Tensor, tf.Tensor]:
    return images, labels


class ImageDataset:
    """Batches of labelled images, epoch by epoch.

    Args:
        records: the images, each known by its place here, its index.
        class_names: a record's label is its place here; -1 where there is none.
        image_size_px: side of the square images.
        batch_size: images a batch, of all shards together; the last batch may be smaller.
        window: for 16-bit grey images, as in `decode_image`.
        max_pixels: larger images are refused.
        seed: with the epoch it gives the order and the augmentation.
        shuffle: false: every epoch goes through the records in order.
        augment: takes images `[batch, size, size, 3]` float32 in [0, 255] and seeds `[batch, 2]`
            int32, returns images. Labels never travel through it.
        mix: takes what `augment` returns, labels `[batch]` int32 and the seeds; returns images, and labels
            `[batch, classes]` float32. It sees the rows of one batch, or of one shard's part of it: the
            order of an epoch gives the same rows in every run, another number of shards gives others.
        placement: where `augment` and `mix` run: `host`, in the pipeline that `indexed_batches` returns, or `device`, in the
            training step, which takes `plain_batches` and calls `finish`. The same images either way.
        cache: `memory` keeps the decoded, resized images in host memory, filled on first use.
        views: augmented images that each image has in all: epoch `e` shows view `e` modulo their number. None: every
            epoch shows another one.
        drop_remainder: leave out a last batch that is smaller.
        parallel_calls: images decoded at the same time; None: tf.data chooses. Never changes a byte.

    Attributes:
        num_examples, steps_per_epoch: whole numbers.
        labels: `[num_examples]` int32.
        mixes: whether batches hold mixed labels.
        augmented: whether images are changed.
        repeats: whether some later epoch shows the images of an earlier one.
        views: distinct images made of each; 1 where none is changed, or none repeats.
        can_be_told: whether `fingerprint` works: `augment` is a policy of `build_policy`, or there is none.
        finish: `(images, labels, indices, epoch)` as `plain_batches` gives them, and a scalar int64, to a batch as
            `indexed_batches` gives it.

    Raises:
        RequestError: images without a class cannot be mixed.
    """

    def __init__(
        self,
        records: Sequence[Record],
        *,
        class_names: Sequence[str],
        image_size_px: int,
        batch_size: int,
        window: Window | None = None,
        max_pixels: int = MAX_PIXELS,
        seed: int = 0,
        shuffle: bool = True,
        augment: Policy | None = None,
        mix: Mixer | None = None,
        placement: Literal["host", "device"] = "host",
        cache: Literal["memory", "none"] = "none",
        views: int | None = None,
        drop_remainder: bool = False,
        parallel_calls: int | None = None,
    ) -> None:
        self.records = tuple(records)
        self.class_names = tuple(class_names)
        self.num_examples = len(self.records)
        self.image_size_px, self.batch_size = image_size_px, batch_size
        whole, rest = divmod(self.num_examples, batch_size)
        self.steps_per_epoch = whole + (1 if rest and not drop_remainder else 0)
        self.window, self.max_pixels = window, max_pixels
        self.seed, self.shuffle, self.cache = seed, shuffle, cache
        self._take_labels()
        self.mixes, self.placement = mix is not None, placement
        self.augmented, self._augment = augment is not None, augment
        self.has_fingerprint = augment is None or is_described(augment)
        self.repeats = views is not None or not (self.augmented or self.mixes)
        self.views = views if views is not None and self.augmented else 1
        unlabeled = int((self.labels == UNLABELED).sum())
        if self.mixes and unlabeled:
            raise RequestError(
                f"{unlabeled:,} of {self.num_examples:,} images have no class: there is no label to mix."
            )
        self._parallel_calls = parallel_calls or tf.data.AUTOTUNE
        self._stream, self._images = 0, list[tf.Tensor]()
        with tf.device("CPU:0"):
            self._files = tf.constant([str(record.file) for record in self.records], tf.string)
        self._load = tf.function(self._load_one, autograph=False)
        self.finish = tf.function(self._finish_batch(mix), autograph=False)

    def __repr__(self) -> str:
        is_set = {
            "shuffle": self.shuffle, "augment": self.augmented, "mix": self.mixes,
            "cache": self.cache == "memory",
        }  # fmt: skip
        options = [name for name, value in is_set.items() if value]
        size = f"{self.image_size_px} x {self.image_size_px} px"
        return (
            f"<ImageDataset: {self.num_examples:,} images of {size}, {len(self.class_names)} classes, "
            f"batch size {self.batch_size}{''.join(f', {name}' for name in options)}>"
        )

    def order(self, epoch: int) -> Indices:
        """Return the indices of an epoch in their order: `[num_examples]` int64."""
        if self.shuffle:
            return epoch_order(self.seed, epoch, self.num_examples, self._stream)
        return np.arange(self.num_examples, dtype=np.int64)

    def with_own_order(self, *, labelled: bool) -> ImageDataset:
        """Return the same images in an order of their own, to be read side by side with another source.

        Two sources of one seed and one size have one order: their batches would pair images by their places.

        Args:
            labelled: false: every label is -1, in batches, in `labels` and in `records`.
        """
        other = copy.copy(self)
        other._stream = self._stream + 1
        if not labelled:
            other.records = tuple(replace(record, label=None) for record in self.records)
            other._take_labels()
        return other

    def _take_labels(self) -> None:
        self.labels = label_indices(self.records, self.class_names)
        with tf.device("CPU:0"):
            self._labels = tf.constant(self.labels)

    def steps(self, epoch: int, first_step: int = 0, shard: tuple[int, int] = (0, 1)) -> list[Indices]:
        """Return the indices of each batch of an epoch, from `first_step` on; parameters as in `batches`."""
        order, size = self.order(epoch), self.batch_size
        index, count = shard
        return [
            order[step * size : (step + 1) * size][index::count]
            for step in range(first_step, self.steps_per_epoch)
        ]

    def batches(self, epoch: int, first_step: int = 0, shard: tuple[int, int] = (0, 1)) -> tf.data.Dataset:
        """Return one epoch as `(images, labels)`, which `keras.Model.fit` and `evaluate` take.

        Args:
            epoch: counted from 0.
            first_step: number of batches to leave out at the beginning. Their files are not read.
            shard: `(index, count)`: the rows index, index + count, ... of every batch. All shards have the same number
                of batches, so the last one of a shard may be empty.

        Returns:
            Elements `(images, labels)`: images `[b, size, size, 3]` float32 in [0, 255], labels `[b]` int32, or
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
            epoch, first_step, shard: as in `batches`.

        Returns:
            Elements `(images, labels, indices)`: images and labels as in `batches`, indices `[b]` int64.
        """
        return prefetched(
            self._finished(self._labeled_batches(epoch, first_step, shard), tf.constant(epoch, tf.int64))
        )

    def as_tf_dataset(self, epoch: int | None = None) -> tf.data.Dataset:
        """Return a dataset of `(images, labels)` for `keras.Model.fit`.

        Args:
            epoch: the epoch that every pass shows. None: each pass over the dataset starts the next epoch, with its own
                order and augmentation. The first pass shows epoch 0. A pass that is stopped early counts, too.

        Returns:
            Elements as of `batches`. The cardinality is `steps_per_epoch`.

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
            batches = self._with_labels(self.select(indices, self.batch_size))
            return self._finished(batches, number).map(_without_indices)

        dataset = tf.data.Dataset.from_generator(
            next_epoch, output_signature=(tf.TensorSpec([None], tf.int64), tf.TensorSpec([], tf.int64))
        ).flat_map(no_autograph(one_pass))
        return prefetched(dataset.apply(tf.data.experimental.assert_cardinality(self.steps_per_epoch)))

    def plain_batches(
        self, epoch: int, first_step: int = 0, shard: tuple[int, int] = (0, 1)
    ) -> tf.data.Dataset:
        """Return what `indexed_batches` returns before augmentation and mixing; labels are `[b]` int32."""
        return prefetched(self._labeled_batches(epoch, first_step, shard))

    def _labeled_batches(self, epoch: int, first_step: int, shard: tuple[int, int]) -> tf.data.Dataset:
        index, count = shard
        mine = np.concatenate([NO_INDICES, *self.steps(epoch, first_step, shard)])
        rows = len(range(index, self.batch_size, count))
        steps = self.steps_per_epoch - first_step
        dataset = self.select(mine, rows)
        if steps * rows - len(mine) >= rows and steps > 0:
            dataset = dataset.concatenate(empty_batch(self.image_size_px))
        return self._with_labels(dataset)

    def _with_labels(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """Add the labels to what `select` returns."""
        return dataset.map(
            no_autograph(lambda images, indices: (images, tf.gather(self._labels, indices), indices))
        )

    def _finished(self, dataset: tf.data.Dataset, epoch: tf.Tensor) -> tf.data.Dataset:
        """Augment and mix labeled batches."""
        return dataset.map(
            no_autograph(lambda images, labels, indices: self.finish(images, labels, indices, epoch)),
            num_parallel_calls=self._parallel_calls,
            deterministic=True,
        )

    def all_images(self, view: int, rows: int) -> tf.data.Dataset:
        """Return all images in the order of their indices, augmented as in the epoch `view`; elements as of `plain_batches`."""
        number = tf.constant(view, tf.int64)
        return prefetched(
            self.select(np.arange(self.num_examples), rows).map(
                no_autograph(lambda images, indices: (
                    self._augmented(images, indices, number), tf.gather(self._labels, indices), indices
                )),
                num_parallel_calls=self._parallel_calls,
                deterministic=True,
            )
        )  # fmt: skip

    def fingerprint(self) -> str:
        """Return the sha256 over every image's content, and all that decides what is made of it but the epoch.

        Raises:
            RequestError: `augment` does not say what it does; only what `build_policy` returns does.
        """
        told: dict[str, Any] = {
            "size": self.image_size_px, "window": self.window, "max_pixels": self.max_pixels,
        }  # fmt: skip
        if self._augment is not None:
            told |= {"augment": description_of(self._augment), "seed": self.seed, "views": self.views}
        return hash_records(self.records, told)

    def explain(self, error: Exception) -> KerastlError:
        """Return the error to raise when reading failed: it names the file that broke.

        Args:
            error: what iterating raised. When every file can be read, the error was another one's
                and the text says so.
        """
        return explain_read_error(error, self.records, window=self.window, max_pixels=self.max_pixels)

    def _load_one(self, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        content = tf.io.read_file(tf.gather(self._files, index))
        load = traced_loader(self.image_size_px, self.window, self.max_pixels)
        return load(content), index

    def _augmented(self, images: tf.Tensor, indices: tf.Tensor, epoch: tf.Tensor) -> tf.Tensor:
        """Augment images as an epoch shows them."""
        if self._augment is None:
            return images
        view = epoch % self.views if self.repeats else epoch
        return self._augment(images, seeds_for(self.seed, view, indices))

    def _finish_batch(self, mix: Mixer | None) -> Callable[..., Any]:
        def finish(
            images: tf.Tensor, labels: tf.Tensor, indices: tf.Tensor, epoch: tf.Tensor
        ) -> tuple[Any, ...]:
            images = self._augmented(images, indices, epoch)
            if mix is not None:
                images, labels = mix(images, labels, seeds_for(self.seed, epoch, indices))
            return images, labels, indices

        return finish

    def _decoded(self, indices: Indices | tf.Tensor, rows: int) -> tf.data.Dataset:
        loaded = tf.data.Dataset.from_tensor_slices(indices).map(
            no_autograph(self._load), num_parallel_calls=self._parallel_calls, deterministic=True
        )
        return loaded.batch(rows)

    def select(self, indices: Indices | tf.Tensor, rows: int) -> tf.data.Dataset:
        """Return the images of some indices in this order, each as often as it is named, not augmented, not mixed.

        Args:
            indices: `[n]` int64.
            rows: images a batch.

        Returns:
            Elements (images `[b, size, size, 3]` float32 in [0, 255], indices `[b]` int64).
        """
        if self.cache == "none":
            return self._decoded(indices, rows)
        images = self._cached_images()
        return (
            tf.data.Dataset.from_tensor_slices(indices)
            .batch(rows)
            .map(no_autograph(lambda batch: (tf.gather(images, batch), batch)))
        )

    def _cached_images(self) -> tf.Tensor:
        if not self._images:
            size = self.image_size_px
            kept = np.empty((self.num_examples, size, size, 3), np.float32)
            batches = self._decoded(np.arange(self.num_examples, dtype=np.int64), FILL_BATCH)
            steps = -(-self.num_examples // FILL_BATCH)
            try:
                for images, indices in track(batches, "decoding images once", steps):
                    kept[indices[0] : indices[-1] + 1] = images
            except tf.errors.OpError as error:
                raise self.explain(error) from error
            with tf.device("CPU:0"):
                self._images.append(tf.convert_to_tensor(kept))
        return self._images[0]

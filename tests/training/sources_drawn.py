"""A source of drawn images that keeps the contract of an epoch source, and a small model."""

from dataclasses import dataclass, replace

import numpy as np


@dataclass
class ArraySource:
    """Images in memory; class 1 is brighter in its upper half."""

    images: np.ndarray
    labels: np.ndarray
    batch_size: int = 8
    seed: int = 0
    shuffle: bool = True
    class_names: tuple[str, ...] = ("dark", "light")
    mixes: bool = False
    augmented: bool = False
    repeats: bool = True
    placement: str = "host"

    @property
    def num_examples(self):
        return len(self.labels)

    @property
    def steps_per_epoch(self):
        return -(-len(self.labels) // self.batch_size)

    @property
    def image_size_px(self):
        return self.images.shape[1]

    def beside(self, *, labelled):
        labels = self.labels if labelled else np.full_like(self.labels, -1)
        return replace(self, labels=labels, seed=self.seed + 1000)

    def indexed_batches(self, epoch, first_step=0, shard=(0, 1)):
        import tensorflow as tf

        order = np.arange(len(self.labels))
        if self.shuffle:
            order = np.random.default_rng([self.seed, epoch]).permutation(order)

        def parts():
            for start in range(first_step * self.batch_size, len(order), self.batch_size):
                rows = order[start : start + self.batch_size][shard[0] :: shard[1]]
                yield self.images[rows], self.labels[rows], rows

        size = self.images.shape[1:]
        return tf.data.Dataset.from_generator(
            parts,
            output_signature=(
                tf.TensorSpec([None, *size], tf.float32),
                tf.TensorSpec([None], tf.int32),
                tf.TensorSpec([None], tf.int64),
            ),
        )


def stored(folder, count: int, class_names: tuple[str, ...]) -> list:
    """Write drawn images as PNGs; return their records."""
    from PIL import Image

    from kerastl.data import Record

    found = []
    for row, (image, label) in enumerate(zip(*drawn(count), strict=True)):
        file = folder / f"{row}.png"
        Image.fromarray(image.astype(np.uint8)).save(file)
        found.append(Record(file.name, file, class_names[label]))
    return found


def drawn(count: int, seed: int = 0, size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = (np.arange(count) % 2).astype(np.int32)
    images = generator.uniform(0, 120, (count, size, size, 3)).astype(np.float32)
    images[labels == 1, : size // 2] += 60
    return images, labels


def plain_phase(*args, **options):
    """A `Phase` that freezes BatchNorm, as for pretrained weights, and has no cache, unless the options say otherwise."""
    from kerastl.recipe import Phase

    return Phase(*args, **({"batch_norm": "frozen", "cache": "none"} | options))

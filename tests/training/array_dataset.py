"""In-memory datasets, random images and phases for the tests of training."""

from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf

from kerastl.data import ImageDataset


@dataclass(eq=False, repr=False)
class ArrayDataset(ImageDataset):
    """A dataset of arrays: its batches are tensors, so that no tf.data graph is traced."""

    images: np.ndarray
    labels: np.ndarray
    batch_size: int = 8
    seed: int = 0
    shuffle: bool = True
    class_names: tuple[str, ...] = ("dark", "light")
    mixes: bool = False
    augmented: bool = False
    repeats: bool = True
    has_fingerprint: bool = False
    placement: str = "host"
    resize: str = "stretch"

    @property
    def num_examples(self):
        return len(self.labels)

    @property
    def steps_per_epoch(self):
        return -(-len(self.labels) // self.batch_size)

    @property
    def image_size_px(self):
        return self.images.shape[1:3]

    def with_own_order(self, *, labeled):
        labels = self.labels if labeled else np.full_like(self.labels, -1)
        return replace(self, labels=labels, seed=self.seed + 1000)

    def indexed_batches(self, epoch, first_step=0, shard=(0, 1)):
        order = np.arange(len(self.labels))
        if self.shuffle:
            order = np.random.default_rng([self.seed, epoch]).permutation(order)
        for start in range(first_step * self.batch_size, len(order), self.batch_size):
            rows = order[start : start + self.batch_size][shard[0] :: shard[1]]
            yield tf.constant(self.images[rows]), tf.constant(self.labels[rows]), tf.constant(rows)


def write_images(folder, count: int, class_names: tuple[str, ...]) -> list:
    """Write images as PNG files and return their records."""
    from PIL import Image

    from kerastl.data import Record

    records = []
    for row, (image, label) in enumerate(zip(*make_images(count), strict=True)):
        file = folder / f"{row}.png"
        Image.fromarray(image.astype(np.uint8)).save(file)
        records.append(Record(file.name, file, class_names[label]))
    return records


def make_images(count: int, seed: int = 0, size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Return random images and labels; images of class 1 are brighter in their upper half."""
    generator = np.random.default_rng(seed)
    labels = (np.arange(count) % 2).astype(np.int32)
    images = generator.uniform(0, 120, (count, size, size, 3)).astype(np.float32)
    images[labels == 1, : size // 2] += 60
    return images, labels


def plain_phase(*args, **options):
    """Return a `Phase` that by default freezes BatchNorm, as for pretrained weights, and has no cache."""
    from kerastl.recipe import Phase

    return Phase(*args, **({"batch_norm": "frozen", "cache": "none"} | options))


def phase_with(phase, **options):
    """A validated copy of the phase with other options."""
    from kerastl.recipe import Phase

    return Phase(**{**vars(phase), **options})

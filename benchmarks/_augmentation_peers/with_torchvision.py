"""torchvision's transforms v2 on uint8 tensors, as its documentation recommends.

`loop` augments one image at a time in one process, `workers` uses a DataLoader with two persistent worker processes.
`batched` transforms whole batches with the same random parameters for all images. This is a different augmentation, measured for its speed only.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from bursts import BATCH_SIZE, StreamFactory, serve
from torch.utils.data import DataLoader, Dataset
from torchvision_import import skip_detection_operations

with skip_detection_operations():
    from torchvision.transforms import v2

WORKERS = 2
ENDLESS = 10**8


def build_transform():
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(0.5),
            v2.RandomAffine(
                15, translate=(0.1, 0.1), scale=(0.8, 1.2),
                interpolation=v2.InterpolationMode.BILINEAR, fill=128,
            ),
            v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.3, hue=20 / 360),
            v2.RandomErasing(p=1.0, scale=(0.0001, 0.0625), ratio=(0.5, 2.0), value=128),
        ]
    )  # fmt: skip


def to_tensors(images: np.ndarray) -> torch.Tensor:
    """Return a uint8 tensor `[count, 3, size, size]`."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def make_loop(images: np.ndarray) -> StreamFactory:
    augment, tensors = build_transform(), to_tensors(images)

    def batches():
        start = 0
        while True:
            rows = [tensors[(start + row) % len(tensors)] for row in range(BATCH_SIZE)]
            yield torch.stack([augment(row) for row in rows])
            start += BATCH_SIZE

    return batches


def make_batched_loop(images: np.ndarray) -> StreamFactory:
    augment, tensors = build_transform(), to_tensors(images)

    def batches():
        while True:
            for batch in tensors.split(BATCH_SIZE):
                yield augment(batch)

    return batches


class AugmentedDataset(Dataset):
    """An endless dataset that augments the images anew each time."""

    def __init__(self, images: np.ndarray) -> None:
        self.images, self.augment = to_tensors(images), build_transform()

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.augment(self.images[index % len(self.images)])


def make_worker_loader(images: np.ndarray) -> StreamFactory:
    loader = DataLoader(AugmentedDataset(images), BATCH_SIZE, num_workers=WORKERS, persistent_workers=True)
    return loader.__iter__


if __name__ == "__main__":
    kinds = {"loop": make_loop, "batched": make_batched_loop, "workers": make_worker_loader}
    serve(kinds[sys.argv[2]], packages=("torchvision", "torch"), yields="uint8")

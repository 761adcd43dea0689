"""AlbumentationsX, as its performance page recommends: uint8 images, one Affine, no OpenCV threads in workers.

`loop` augments one image at a time in one process, where OpenCV may use threads. `workers` uses a PyTorch DataLoader
with two persistent worker processes.
"""

from __future__ import annotations

import sys

import albumentations
import cv2
import numpy as np
import torch
from bursts import BATCH_SIZE, StreamFactory, serve
from torch.utils.data import DataLoader, Dataset

WORKERS = 2
ENDLESS = 10**8


def build_transform(*extra) -> albumentations.Compose:
    chain = [
        albumentations.HorizontalFlip(p=0.5),
        albumentations.Affine(
            rotate=(-15, 15), scale=(0.8, 1.2), translate_percent={"x": (-0.1, 0.1), "y": (-0.1, 0.1)},
            interpolation=cv2.INTER_LINEAR, border_mode=cv2.BORDER_REFLECT, p=1.0,
        ),
        albumentations.RandomBrightnessContrast(
            brightness_range=(-0.2, 0.2), contrast_range=(-0.2, 0.2), brightness_by_max=True, p=1.0
        ),
        # OpenCV's hue ranges from 0 to 179. The saturation is shifted in the range 0 to 255.
        albumentations.HueSaturationValue(
            hue_shift_range=(-10, 10), sat_shift_range=(-76, 76), val_shift_range=(0, 0), p=1.0
        ),
        albumentations.CoarseDropout(
            num_holes_range=(1, 1), hole_height_range=(0.004, 0.25), hole_width_range=(0.004, 0.25), fill=128, p=1.0
        ),
    ]  # fmt: skip
    # Telemetry would use the network.
    return albumentations.Compose([*chain, *extra], telemetry=False)


def make_loop(images: np.ndarray) -> StreamFactory:
    augment = build_transform()

    def batches():
        start = 0
        while True:
            rows = [images[(start + row) % len(images)] for row in range(BATCH_SIZE)]
            yield np.stack([augment(image=row)["image"] for row in rows])
            start += BATCH_SIZE

    return batches


class AugmentedDataset(Dataset):
    """An endless dataset that augments the images anew each time."""

    def __init__(self, images: np.ndarray) -> None:
        self.images, self.augment = images, build_transform(albumentations.ToTensorV2())

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.augment(image=self.images[index % len(self.images)])["image"]


def disable_opencv_threads(_: int) -> None:
    cv2.setNumThreads(0)


def make_worker_loader(images: np.ndarray) -> StreamFactory:
    loader = DataLoader(
        AugmentedDataset(images), BATCH_SIZE, num_workers=WORKERS, persistent_workers=True,
        worker_init_fn=disable_opencv_threads,
    )  # fmt: skip
    return loader.__iter__


if __name__ == "__main__":
    serve(
        make_worker_loader if sys.argv[2] == "workers" else make_loop,
        packages=("albumentationsx", "opencv-python-headless", "numpy", "torch"),
        yields="uint8",
    )

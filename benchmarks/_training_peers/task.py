"""Task and output format of the training peers. Standard library only, because each peer has its own environment."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Task:
    """One training phase.

    Args:
        folder: Folder with `train` and `val`, each with one subfolder per class.
        size: Height and width of the images, in pixels.
        epochs: Number of epochs.
        part: `head`, or `last` to train the last 30 % of the network, too.
        augment: Whether training images are flipped and rotated.
        cache: Cache of kerastl: `none`, `auto`, `features` or `boundary`.
        precision: Precision of that cache.
        half: Whether PyTorch uses bfloat16 autocast.
        xla: `jit_compile` of Keras: `auto` or `off`.
        defaults: Whether fastai uses its defaults: trainable BatchNorm and `fine_tune`.
        in_memory: Whether peers that can do so keep decoded images in memory.
        backbone: `mobilenet_v2` or `resnet50`.
        weights: `none`, or the file of ImageNet weights published by Keras.
        options: Options of the backbone.
        classes: Number of classes.
        rate: Learning rate of Adam.
        seed: Seed of the order, the dropout and the initial weights of the head.
        scratch: Folder for caches.
    """

    folder: Path
    size: int
    epochs: int
    part: str
    augment: bool
    cache: str
    precision: str
    half: bool
    xla: str
    defaults: bool
    in_memory: bool
    backbone: str
    weights: str
    options: dict[str, Any]
    classes: int
    rate: float
    seed: int
    scratch: Path

    operations = (
        {"name": "random_flip", "direction": "horizontal"},
        {"name": "random_rotation", "max_deg": 36.0},
    )

    @classmethod
    def parse(cls, words: list[str]) -> Task:
        """Read the task from the first command-line argument, a JSON object."""
        settings = json.loads(words[0])
        return cls(**settings | {"folder": Path(settings["folder"]), "scratch": Path(settings["scratch"])})


def print_results(start_up: float, training: float, accuracy: float, weights: str) -> None:
    """Print the seconds before the first step, the seconds of training, the validation accuracy, and the name of the weights."""
    results = {"start_up_s": start_up, "training_s": training, "accuracy": accuracy}
    print(json.dumps({**results, "weights": weights}))

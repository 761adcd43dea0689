"""What every peer is asked, and how it answers. Standard library alone: peers have environments of their own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Task:
    """One training.

    Args:
        folder: holds `train` and `val`, each a sub-folder a class.
        size: side of the images.
        epochs: of the phase.
        part: `head`, or `last`: the last 30 % of the network, too.
        augment: whether training images are mirrored and turned.
        cache: of kerastl: `none`, `auto`, `features` or `boundary`.
        precision: of that cache.
        half: of torch: bfloat16 autocast.
        xla: of Keras: `auto` as `compile` has it, or `off`.
        defaults: of fastai: its own head, learning BatchNorm and `fine_tune`.
        in_memory: whether decoded images are kept in memory, by those that can.
        backbone: `mobilenet_v2` or `resnet50`.
        weights: `none`, or the file of ImageNet weights that Keras publishes.
        options: of the backbone.
        classes: how many.
        rate: of Adam.
        seed: of order, dropout and the head's first weights.
        scratch: for caches.
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
        """Read the task from the one word that a peer is handed."""
        settings = json.loads(words[0])
        return cls(**settings | {"folder": Path(settings["folder"]), "scratch": Path(settings["scratch"])})


def print_results(start_up: float, training: float, accuracy: float, weights: str) -> None:
    """Print the answer: seconds before the first step and from there to the end, the accuracy reached, with which weights."""
    results = {"start_up_s": start_up, "training_s": training, "accuracy": accuracy}
    print(json.dumps({**results, "weights": weights}))

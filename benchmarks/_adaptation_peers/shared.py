"""What the peers in PyTorch share: the task, the network of ours, and the score."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class Task:
    """What a peer is asked.

    Args:
        images: by split, `[n, 3, size, size]` float32 in [-1, 1], as the first layer of ours takes them.
        labels: by split, `[n]` int64; -1 where there is none.
        groups: by split, `[n]`.
        classes: how many.
        seed: of everything drawn.
        epochs, source_epochs: of all, and of these before adapting, for a tool that learns the source first.
        batch_size: images of a domain a step.
        metric: `balanced_accuracy` or `group_auc`.
    """

    images: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    groups: dict[str, np.ndarray]
    classes: int
    seed: int
    epochs: int
    source_epochs: int
    batch_size: int
    metric: str

    @classmethod
    def parse(cls) -> Task:
        """Read the task from the one word that a peer is handed."""
        settings = json.loads(sys.argv[1])
        with np.load(settings.pop("images")) as file:
            held = {key: file[key] for key in file}
        classes = int(held.pop("classes"))
        parts: dict[str, dict[str, np.ndarray]] = {"images": {}, "labels": {}, "groups": {}}
        for key, values in held.items():
            split, _, part = key.rpartition("_")
            parts[part][split] = values
        channels_first = {
            split: np.ascontiguousarray((images / 127.5 - 1.0).transpose(0, 3, 1, 2), np.float32)
            for split, images in parts["images"].items()
        }
        labels = {split: values.astype(np.int64) for split, values in parts["labels"].items()}
        return cls(channels_first, labels, parts["groups"], classes, **settings)

    def score(self, probabilities: np.ndarray) -> float:
        """Return the metric of probabilities `[n, classes]` on the target's test images, as kerastl makes it."""
        labels = self.labels["target_test"]
        if self.metric == "balanced_accuracy":
            return float(balanced_accuracy_score(labels, probabilities.argmax(1)))
        _, first, group_index = np.unique(self.groups["target_test"], return_index=True, return_inverse=True)
        sums = np.zeros((len(first), self.classes))
        np.add.at(sums, group_index, probabilities)
        means = sums / np.bincount(group_index)[:, None]
        return float(roc_auc_score(labels[first], means[:, 1]))


class Trunk(torch.nn.Sequential):
    """`small_cnn`: three blocks of convolution, max-pooling, BatchNorm and ReLU, then the mean over places: `[n, 128]`."""

    def __init__(self) -> None:
        layers: list[torch.nn.Module] = []
        for before, filters in ((3, 32), (32, 64), (64, 128)):
            layers += [
                torch.nn.Conv2d(before, filters, 3, padding=1, bias=False),
                torch.nn.MaxPool2d(2),
                # Keras's momentum of 0.9 is PyTorch's 0.1; its epsilon is 1e-3.
                torch.nn.BatchNorm2d(filters, eps=1e-3, momentum=0.1),
                torch.nn.ReLU(),
            ]
        super().__init__(*layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())


class Head(torch.nn.Sequential):
    """Dropout and one layer: `[n, 128]` to logits `[n, classes]`."""

    def __init__(self, classes: int) -> None:
        super().__init__(torch.nn.Dropout(0.2), torch.nn.Linear(128, classes))


def initialize_like_keras(network: torch.nn.Module) -> None:
    """Draw first weights as Keras does: Glorot's uniform, biases zero."""
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)


def print_results(values: dict[str, float], scores: dict[str, dict[str, float]], by: str) -> None:
    """Print the answer.

    Args:
        values: the metric at the target by method.
        scores: by validator and method; greater is better.
        by: the validator that chooses.
    """
    chosen_by = {
        name: max(by_method, key=lambda method: by_method[method]) for name, by_method in scores.items()
    }
    results: dict[str, Any] = {"values": values, "chosen": chosen_by[by], "chosen_by": chosen_by}
    print(json.dumps({**results, "scores": scores}))

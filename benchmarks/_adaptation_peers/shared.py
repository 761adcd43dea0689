"""Task, network and score shared by the PyTorch peers."""

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
    """The settings and data of a peer.

    Args:
        images: Images by split, `[n, 3, size, size]`, float32 in [-1, 1], the input range of the first layer of kerastl's network.
        labels: Labels by split, `[n]`, int64. -1 means unlabeled.
        groups: Groups (patients) by split, `[n]`.
        classes: Number of classes.
        seed: Random seed.
        epochs: Total number of epochs.
        source_epochs: Epochs on the source only, for libraries that train a source model first.
        batch_size: Images of each domain per step.
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
        """Read the task from the first command-line argument, a JSON object."""
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
        """Return the metric of probabilities `[n, classes]` on the target test images, computed as in kerastl."""
        labels = self.labels["target_test"]
        if self.metric == "balanced_accuracy":
            return float(balanced_accuracy_score(labels, probabilities.argmax(1)))
        _, first, group_index = np.unique(self.groups["target_test"], return_index=True, return_inverse=True)
        sums = np.zeros((len(first), self.classes))
        np.add.at(sums, group_index, probabilities)
        means = sums / np.bincount(group_index)[:, None]
        return float(roc_auc_score(labels[first], means[:, 1]))


class Trunk(torch.nn.Sequential):
    """`small_cnn`: three blocks of convolution, max pooling, BatchNorm and ReLU, then global average pooling to `[n, 128]`."""

    def __init__(self) -> None:
        layers: list[torch.nn.Module] = []
        for before, filters in ((3, 32), (32, 64), (64, 128)):
            layers += [
                torch.nn.Conv2d(before, filters, 3, padding=1, bias=False),
                torch.nn.MaxPool2d(2),
                # A momentum of 0.9 in Keras is 0.1 in PyTorch. The epsilon of Keras is 1e-3.
                torch.nn.BatchNorm2d(filters, eps=1e-3, momentum=0.1),
                torch.nn.ReLU(),
            ]
        super().__init__(*layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())


class Head(torch.nn.Sequential):
    """Dropout and a linear layer: features `[n, 128]` to logits `[n, classes]`."""

    def __init__(self, classes: int) -> None:
        super().__init__(torch.nn.Dropout(0.2), torch.nn.Linear(128, classes))


def initialize_like_keras(network: torch.nn.Module) -> None:
    """Initialize weights with Keras's defaults: Glorot uniform, and zeros for biases."""
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)


def print_results(values: dict[str, float], scores: dict[str, dict[str, float]], by: str) -> None:
    """Print the results as JSON.

    Args:
        values: Target metric by method.
        scores: Validation scores by validator and method. Higher is better.
        by: The validator that selects the method.
    """
    chosen_by = {
        name: max(by_method, key=lambda method: by_method[method]) for name, by_method in scores.items()
    }
    results: dict[str, Any] = {"values": values, "chosen": chosen_by[by], "chosen_by": chosen_by}
    print(json.dumps({**results, "scores": scores}))

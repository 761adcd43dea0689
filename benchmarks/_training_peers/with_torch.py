"""torchvision and PyTorch: the transfer-learning tutorial with the advice of the performance guide for CPUs.

From the tutorial: the network is a frozen feature extractor, or its last part is fine-tuned. From the guide: DataLoader workers,
channels_last, and bfloat16 autocast if the task requires it. Unlike in the tutorial, BatchNorm is frozen. Weights are used
if they are in torch's cache, and never downloaded. Without them, the accuracy is meaningless but the time is the same.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

STARTED = time.perf_counter()

import torch  # noqa: E402 - importing is part of the start-up that is timed
from _training_peers.task import Task, print_results  # noqa: E402
from torchvision_import import skip_detection_operations  # noqa: E402

with skip_detection_operations():
    from torchvision import datasets, models
    from torchvision.transforms import v2


def find_weights(task: Task):
    """Return ImageNet weights if they are on this machine, else None."""
    if task.weights == "none":
        return None
    weights = models.get_model_weights(task.backbone).DEFAULT
    file = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[-1]
    return weights if file.is_file() else None


class Network(torch.nn.Module):
    """A network in three parts: the frozen front, the rest of the backbone, and the head.

    Args:
        task: The network and its trainable part.
    """

    def __init__(self, task: Task) -> None:
        super().__init__()
        whole = models.get_model(task.backbone, weights=find_weights(task))
        if task.backbone == "mobilenet_v2":
            blocks, width = list(whole.features.children()), whole.last_channel
        else:
            blocks = [
                block
                for name, part in whole.named_children()
                if name not in ("fc", "avgpool")
                for block in (part if isinstance(part, torch.nn.Sequential) else [part])
            ]
            width = whole.fc.in_features
        border = len(blocks) if task.part == "head" else find_first_trainable_block(blocks)
        self.front = torch.nn.Sequential(*blocks[:border])
        self.rest = torch.nn.Sequential(*blocks[border:])
        self.head = torch.nn.Sequential(
            torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Dropout(0.2),
            torch.nn.Linear(width, task.classes),
        )  # fmt: skip
        for part in (self.front, *self.norms()):
            part.requires_grad_(False)

    def norms(self) -> list[torch.nn.Module]:
        """Return all BatchNorm layers."""
        return [module for module in self.modules() if isinstance(module, torch.nn.BatchNorm2d)]

    def train(self, mode: bool = True) -> Network:
        """Set the training mode of all layers except BatchNorm."""
        super().train(mode)
        for norm in self.norms():
            norm.eval()
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits. The front is computed without gradients."""
        with torch.no_grad():
            features = self.front(images)
        return self.head(self.rest(features))


def find_first_trainable_block(blocks: list[torch.nn.Module]) -> int:
    """Return the index of the block that contains the start of the last 30 % of the layers."""
    counts = [sum(not list(module.children()) for module in block.modules()) for block in blocks]
    target, seen = 0.7 * sum(counts), 0
    for number, count in enumerate(counts):
        seen += count
        if seen > target:
            return number
    return len(blocks)


def loader(task: Task, split: str) -> torch.utils.data.DataLoader:
    """Return the DataLoader of one split."""
    steps = [v2.ToImage(), v2.Resize((task.size, task.size))]
    if split == "train" and task.augment:
        steps += [v2.RandomHorizontalFlip(), v2.RandomRotation(36)]
    steps += [v2.ToDtype(torch.float32, scale=True)]
    steps += [v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
    return torch.utils.data.DataLoader(
        datasets.ImageFolder(task.folder / split, v2.Compose(steps)), batch_size=32,
        shuffle=split == "train", num_workers=2, persistent_workers=True,
    )  # fmt: skip


def main() -> None:
    """Train."""
    task = Task.parse(sys.argv[1:])
    torch.manual_seed(task.seed)
    train, val = loader(task, "train"), loader(task, "val")
    model = Network(task).to(memory_format=torch.channels_last)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=task.rate)
    loss_fn = torch.nn.CrossEntropyLoss()
    precision_context = torch.autocast("cpu", dtype=torch.bfloat16, enabled=task.half)
    started = time.perf_counter()
    correct = count = 0
    for _ in range(task.epochs):
        model.train()
        for images, labels in train:
            optimizer.zero_grad(set_to_none=True)
            with precision_context:
                loss = loss_fn(model(images.to(memory_format=torch.channels_last)), labels)
            loss.backward()
            optimizer.step()
        model.eval()
        correct = count = 0
        with torch.inference_mode(), precision_context:
            for images, labels in val:
                predicted = model(images.to(memory_format=torch.channels_last)).argmax(1)
                correct, count = correct + int((predicted == labels).sum()), count + len(labels)
    ended = time.perf_counter()
    weights = "random" if find_weights(task) is None else "imagenet"
    print_results(started - STARTED, ended - started, correct / max(count, 1), weights)


main()

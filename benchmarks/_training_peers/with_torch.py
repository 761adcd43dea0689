"""torchvision and PyTorch: the tutorial on transfer learning, with what the performance guide says of CPUs.

From the tutorial: the network as a fixed feature extractor, nothing of it requiring a gradient, or its last part fine-tuned.
From the guide: DataLoader workers, channels_last, and, where the task says so, bfloat16 autocast. BatchNorm stays frozen, which the
tutorial leaves out. Weights that lie in torch's cache are used, none are fetched: without, the accuracy says nothing; the time does.
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
    """Return ImageNet weights that are on this machine, or None."""
    if task.weights == "none":
        return None
    weights = models.get_model_weights(task.backbone).DEFAULT
    file = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[-1]
    return weights if file.is_file() else None


class Network(torch.nn.Module):
    """A network in three parts: the front, which is frozen, what follows of the trunk, and the head.

    Args:
        task: names the network and what learns.
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
        """Return every BatchNorm."""
        return [module for module in self.modules() if isinstance(module, torch.nn.BatchNorm2d)]

    def train(self, mode: bool = True) -> Network:
        """Switch dropout; BatchNorm stays as it is."""
        super().train(mode)
        for norm in self.norms():
            norm.eval()
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits; nothing of the front is kept for a backward pass."""
        with torch.no_grad():
            features = self.front(images)
        return self.head(self.rest(features))


def find_first_trainable_block(blocks: list[torch.nn.Module]) -> int:
    """Return the block in which the layer stands that begins the last 30 %."""
    counts = [sum(not list(module.children()) for module in block.modules()) for block in blocks]
    wanted, seen = 0.7 * sum(counts), 0
    for number, count in enumerate(counts):
        seen += count
        if seen > wanted:
            return number
    return len(blocks)


def loader(task: Task, split: str) -> torch.utils.data.DataLoader:
    """Return batches of one split."""
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
    right = count = 0
    for _ in range(task.epochs):
        model.train()
        for images, labels in train:
            optimizer.zero_grad(set_to_none=True)
            with precision_context:
                loss = loss_fn(model(images.to(memory_format=torch.channels_last)), labels)
            loss.backward()
            optimizer.step()
        model.eval()
        right = count = 0
        with torch.inference_mode(), precision_context:
            for images, labels in val:
                answers = model(images.to(memory_format=torch.channels_last)).argmax(1)
                right, count = right + int((answers == labels).sum()), count + len(labels)
    ended = time.perf_counter()
    weights = "random" if find_weights(task) is None else "imagenet"
    print_results(started - STARTED, ended - started, right / max(count, 1), weights)


main()

"""torchvision and PyTorch, as the guide to transfer learning does it: DataLoader workers, channels_last, optionally bfloat16.

No weights are loaded, as none are published for the alpha that Keras has: its accuracy says nothing, its time does.
"""

from __future__ import annotations

import sys
import time

STARTED = time.perf_counter()

import torch  # noqa: E402 - importing is part of the start-up that is timed
from _training_peers.task import Task, tell  # noqa: E402
from torchvision_import import passing_over_detection  # noqa: E402

with passing_over_detection():
    from torchvision import datasets, models
    from torchvision.transforms import v2


def build(task: Task) -> tuple[torch.nn.Module, list[torch.nn.Parameter]]:
    """Return the network and what is trained; BatchNorm never is."""
    if task.backbone == "mobilenet_v2":
        model = models.mobilenet_v2()
        model.classifier[1] = head = torch.nn.Linear(model.last_channel, task.classes)
        blocks = list(model.features.children())
    else:
        model = models.resnet50()
        model.fc = head = torch.nn.Linear(model.fc.in_features, task.classes)
        blocks = [one for name, one in model.named_children() if name != "fc"]
    learning = [head]
    if task.part == "last":
        layers = [one for block in blocks for one in block.modules() if not list(one.children())]
        learning += layers[int(0.7 * len(layers)) :]
    norms = [one for one in model.modules() if isinstance(one, torch.nn.BatchNorm2d)]
    for parts, flag in (([model], False), (learning, True), (norms, False)):
        for parameter in (one for part in parts for one in part.parameters()):
            parameter.requires_grad = flag
    model = model.to(memory_format=torch.channels_last)
    return model, [one for one in model.parameters() if one.requires_grad]


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
    task = Task.parsed(sys.argv[1:])
    torch.manual_seed(task.seed)
    train, val = loader(task, "train"), loader(task, "val")
    model, trained = build(task)
    optimizer = torch.optim.Adam(trained, lr=task.rate)
    loss_of = torch.nn.CrossEntropyLoss()
    halves = torch.autocast("cpu", dtype=torch.bfloat16, enabled=task.half)
    begun = time.perf_counter()
    right = count = 0
    for _ in range(task.epochs):
        model.eval()  # BatchNorm stays frozen, as on the other side
        for images, labels in train:
            optimizer.zero_grad(set_to_none=True)
            with halves:
                loss = loss_of(model(images.to(memory_format=torch.channels_last)), labels)
            loss.backward()
            optimizer.step()
        right = count = 0
        with torch.inference_mode(), halves:
            for images, labels in val:
                answers = model(images.to(memory_format=torch.channels_last)).argmax(1)
                right, count = right + int((answers == labels).sum()), count + len(labels)
    ended = time.perf_counter()
    tell(begun - STARTED, ended - begun, right / max(count, 1))


main()

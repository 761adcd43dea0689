"""PyTorch Adapt: a network learns the source, and each method goes on from it with a hook, as its examples do.

The hooks keep their default weights. Batches hold as many images of the target as of the source, each domain's go through the network by
themselves, and the learning rates are those of ours. Its own validators judge on the target's unlabelled images; the choice is
that of `ClassClusterValidator`, ClassAMI, which its authors rank first (Musgrave et al. 2022, arXiv:2208.07360). The others are
told beside it.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from shared import DEVICE, Head, Task, Trunk, as_keras_begins, tell
from torchvision_import import passing_over_detection

warnings.simplefilter("ignore")
with passing_over_detection():
    from pytorch_adapt import hooks, layers, validators
    from pytorch_adapt.models import Discriminator

CHOOSES = "class_ami"
METHODS = ("coral", "mmd", "jan", "dann", "cdan", "mcc")
FEATURES = 128
RATE, ADAPT_RATE = 1e-3, 3e-4
Models = dict[str, torch.nn.Module]


def hook_of(method: str, models: Models, task: Task):
    """Return the hook of a method, its optimizers in it; networks that play against it join `models`."""
    if method in ("dann", "cdan"):
        models["D"] = Discriminator(FEATURES, h=256)
    if method == "cdan":
        models["D"] = Discriminator(1024, h=256)
        models["feature_combiner"] = layers.RandomizedDotProduct([FEATURES, task.classes], 1024)
    for one in models.values():
        one.to(DEVICE)
    optimizers = {
        name: torch.optim.Adam(one.parameters(), ADAPT_RATE)
        for name, one in models.items()
        if any(True for _ in one.parameters())
    }
    played = [optimizers[name] for name in ("G", "C")]
    if method == "dann":
        return hooks.DANNHook(opts=list(optimizers.values()))
    if method == "cdan":
        return hooks.CDANHook(d_opts=[optimizers["D"]], g_opts=played)
    if method == "mcc":
        return hooks.ClassifierHook(opts=played, post=[hooks.MCCHook()])
    if method == "coral":
        return hooks.AlignerPlusCHook(opts=played, loss_fn=layers.CORALLoss(), softmax=False)
    scales = layers.utils.get_kernel_scales(low=-3, high=3, num_kernels=10)
    loss = layers.MMDLoss(kernel_scales=scales, mmd_type="quadratic")
    if method == "mmd":
        return hooks.AlignerPlusCHook(opts=played, loss_fn=loss)
    return hooks.AlignerPlusCHook(opts=played, aligner_hook=hooks.JointAlignerHook(loss_fn=loss))


def batches(task: Task, epochs: int, rng: np.random.Generator) -> Iterator[dict[str, torch.Tensor]]:
    """Yield batches of both domains, as many as whole ones of the longer domain fill an epoch; the shorter one begins anew."""
    source, target = task.images["train"], task.images["target_unlabelled"]
    steps = max(len(source), len(target)) // task.batch_size
    for _ in range(epochs):
        orders = []
        for images in (source, target):
            rounds = -(-steps * task.batch_size // len(images))
            orders.append(np.concatenate([rng.permutation(len(images)) for _ in range(rounds)]))
        for step in range(steps):
            place = slice(step * task.batch_size, (step + 1) * task.batch_size)
            here, there = (order[place] for order in orders)
            yield {
                "src_imgs": torch.from_numpy(source[here]),
                "src_labels": torch.from_numpy(task.labels["train"][here]),
                "src_domain": torch.zeros(len(here)),
                "target_imgs": torch.from_numpy(target[there]),
                "target_domain": torch.ones(len(there)),
            }


def trained(hook, models: Models, task: Task, epochs: int) -> None:
    """Train in place."""
    for one in models.values():
        one.train()
    for batch in batches(task, epochs, np.random.default_rng(task.seed)):
        hook({**models, **{name: one.to(DEVICE) for name, one in batch.items()}}, {})


def answers(models: Models, images: np.ndarray) -> dict[str, torch.Tensor]:
    """Return `features`, `logits` and `preds` of images, as validators take them."""
    found: dict[str, list[torch.Tensor]] = {"features": [], "logits": [], "preds": []}
    for one in models.values():
        one.eval()
    with torch.no_grad():
        for part in torch.from_numpy(images).split(256):
            features = models["G"](part.to(DEVICE))
            logits = models["C"](features)
            for name, values in (("features", features), ("logits", logits), ("preds", logits.softmax(1))):  # fmt: skip
                found[name].append(values.cpu())
    return {name: torch.cat(values) for name, values in found.items()}


def judged(models: Models, task: Task) -> dict[str, float]:
    """Return what each validator says; greater is better."""
    np.random.seed(task.seed)  # its k-means draws from the global generator
    target = answers(models, task.images["target_unlabelled"])
    asked = {
        CHOOSES: validators.ClassClusterValidator(),
        "information_maximization": validators.IMValidator(),
        "entropy": validators.EntropyValidator(),
        "bnm": validators.BNMValidator(),
        "snd": validators.SNDValidator(),
    }
    return {name: float(one(target_train=target)) for name, one in asked.items()}


def main() -> None:
    """Learn with every method, judge, choose."""
    task = Task.parsed()
    torch.manual_seed(task.seed)
    first: Models = {"G": Trunk(), "C": Head(task.classes)}
    for one in first.values():
        as_keras_begins(one.to(DEVICE))
    optimizers = [torch.optim.Adam(one.parameters(), RATE) for one in first.values()]
    trained(hooks.ClassifierHook(opts=optimizers), first, task, task.source_epochs)
    candidates = {"source_only": first}
    for method in METHODS:
        torch.manual_seed(task.seed)
        models = copy.deepcopy(first)
        trained(hook_of(method, models, task), models, task, task.epochs - task.source_epochs)
        candidates[method] = models
    values: dict[str, float] = {}
    scores: dict[str, dict[str, float]] = {}
    for method, models in candidates.items():
        values[method] = task.score(answers(models, task.images["target_test"])["preds"].numpy())
        for validator, value in judged(models, task).items():
            scores.setdefault(validator, {})[method] = value
    tell(values, scores, CHOOSES)


main()

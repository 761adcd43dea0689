"""PyTorch Adapt: a source model is trained first, then each method continues from it with a hook, as in its examples.

The hooks use their default weights. Each batch has as many target images as source images, each domain has its own forward
pass, and the learning rates are those of the kerastl recipe. PyTorch Adapt's validators score the unlabeled target images. The
method is selected by `ClassClusterValidator` (ClassAMI), the validator ranked first by its authors (Musgrave et al. 2022,
arXiv:2208.07360). The scores of the other validators are reported, too.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from shared import DEVICE, Head, Task, Trunk, initialize_like_keras, print_results
from torchvision_import import skip_detection_operations

warnings.simplefilter("ignore")
with skip_detection_operations():
    from pytorch_adapt import hooks, layers, validators
    from pytorch_adapt.models import Discriminator

SELECTED_BY = "class_ami"
METHODS = ("coral", "mmd", "jan", "dann", "cdan", "mcc")
FEATURES = 128
RATE, ADAPT_RATE = 1e-3, 3e-4
Models = dict[str, torch.nn.Module]


def make_hook(method: str, models: Models, task: Task):
    """Return the hook of a method with its optimizers, and add discriminators to `models`."""
    if method in ("dann", "cdan"):
        models["D"] = Discriminator(FEATURES, h=256)
    if method == "cdan":
        models["D"] = Discriminator(1024, h=256)
        models["feature_combiner"] = layers.RandomizedDotProduct([FEATURES, task.classes], 1024)
    for model in models.values():
        model.to(DEVICE)
    optimizers = {
        name: torch.optim.Adam(model.parameters(), ADAPT_RATE)
        for name, model in models.items()
        if any(True for _ in model.parameters())
    }
    model_optimizers = [optimizers[name] for name in ("G", "C")]
    if method == "dann":
        return hooks.DANNHook(opts=list(optimizers.values()))
    if method == "cdan":
        return hooks.CDANHook(d_opts=[optimizers["D"]], g_opts=model_optimizers)
    if method == "mcc":
        return hooks.ClassifierHook(opts=model_optimizers, post=[hooks.MCCHook()])
    if method == "coral":
        return hooks.AlignerPlusCHook(opts=model_optimizers, loss_fn=layers.CORALLoss(), softmax=False)
    scales = layers.utils.get_kernel_scales(low=-3, high=3, num_kernels=10)
    loss = layers.MMDLoss(kernel_scales=scales, mmd_type="quadratic")
    if method == "mmd":
        return hooks.AlignerPlusCHook(opts=model_optimizers, loss_fn=loss)
    return hooks.AlignerPlusCHook(opts=model_optimizers, aligner_hook=hooks.JointAlignerHook(loss_fn=loss))


def batches(task: Task, epochs: int, rng: np.random.Generator) -> Iterator[dict[str, torch.Tensor]]:
    """Yield batches of both domains. An epoch has the full batches of the larger domain; the smaller domain is repeated."""
    source, target = task.images["train"], task.images["target_unlabelled"]
    steps = max(len(source), len(target)) // task.batch_size
    for _ in range(epochs):
        orders = []
        for images in (source, target):
            rounds = -(-steps * task.batch_size // len(images))
            orders.append(np.concatenate([rng.permutation(len(images)) for _ in range(rounds)]))
        for step in range(steps):
            rows = slice(step * task.batch_size, (step + 1) * task.batch_size)
            source_rows, target_rows = (order[rows] for order in orders)
            yield {
                "src_imgs": torch.from_numpy(source[source_rows]),
                "src_labels": torch.from_numpy(task.labels["train"][source_rows]),
                "src_domain": torch.zeros(len(source_rows)),
                "target_imgs": torch.from_numpy(target[target_rows]),
                "target_domain": torch.ones(len(target_rows)),
            }


def train_models(hook, models: Models, task: Task, epochs: int) -> None:
    """Train the models in place."""
    for model in models.values():
        model.train()
    for batch in batches(task, epochs, np.random.default_rng(task.seed)):
        hook({**models, **{name: tensor.to(DEVICE) for name, tensor in batch.items()}}, {})


def predict(models: Models, images: np.ndarray) -> dict[str, torch.Tensor]:
    """Return `features`, `logits` and `preds` of images, the input of the validators."""
    outputs: dict[str, list[torch.Tensor]] = {"features": [], "logits": [], "preds": []}
    for model in models.values():
        model.eval()
    with torch.no_grad():
        for part in torch.from_numpy(images).split(256):
            features = models["G"](part.to(DEVICE))
            logits = models["C"](features)
            for name, values in (("features", features), ("logits", logits), ("preds", logits.softmax(1))):  # fmt: skip
                outputs[name].append(values.cpu())
    return {name: torch.cat(values) for name, values in outputs.items()}


def compute_scores(models: Models, task: Task) -> dict[str, float]:
    """Return the score of each validator. Higher is better."""
    np.random.seed(task.seed)  # k-means uses the global generator
    target = predict(models, task.images["target_unlabelled"])
    scorers = {
        SELECTED_BY: validators.ClassClusterValidator(),
        "information_maximization": validators.IMValidator(),
        "entropy": validators.EntropyValidator(),
        "bnm": validators.BNMValidator(),
        "snd": validators.SNDValidator(),
    }
    return {name: float(scorer(target_train=target)) for name, scorer in scorers.items()}


def main() -> None:
    """Train with every method, score the results, and select a method."""
    task = Task.parse()
    torch.manual_seed(task.seed)
    source_models: Models = {"G": Trunk(), "C": Head(task.classes)}
    for network in source_models.values():
        initialize_like_keras(network.to(DEVICE))
    optimizers = [torch.optim.Adam(network.parameters(), RATE) for network in source_models.values()]
    train_models(hooks.ClassifierHook(opts=optimizers), source_models, task, task.source_epochs)
    candidates = {"source_only": source_models}
    for method in METHODS:
        torch.manual_seed(task.seed)
        models = copy.deepcopy(source_models)
        train_models(make_hook(method, models, task), models, task, task.epochs - task.source_epochs)
        candidates[method] = models
    values: dict[str, float] = {}
    scores: dict[str, dict[str, float]] = {}
    for method, models in candidates.items():
        values[method] = task.score(predict(models, task.images["target_test"])["preds"].numpy())
        for validator, value in compute_scores(models, task).items():
            scores.setdefault(validator, {})[method] = value
    print_results(values, scores, SELECTED_BY)


main()

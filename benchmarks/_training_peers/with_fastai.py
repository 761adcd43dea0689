"""fastai: `vision_learner`, `freeze`, `fit_one_cycle`, two DataLoader workers.

With `defaults`, as in its documentation: BatchNorm is trainable everywhere, and the second task is `fine_tune`, one epoch
of the head and then all layers. Otherwise it does the same work as the other peers: BatchNorm is frozen by `train_bn=False`
and `BnFreeze`, and the last 30 % of the network are trained. The head is always fastai's. No weights are loaded.
"""

from __future__ import annotations

import sys
import time

STARTED = time.perf_counter()

from _training_peers.task import Task, print_results  # noqa: E402 - importing is part of the start-up that is timed
from torchvision_import import skip_detection_operations  # noqa: E402

with skip_detection_operations():
    from fastai.callback.training import BnFreeze
    from fastai.vision import all as vision
    from fastai.vision import learner as learners

# fastai finds the start of the head only in networks with a pooling layer.
learners.model_meta[vision.models.mobilenet_v2] = {"cut": -1, "split": learners.default_split}


def split_parameters(model):
    """Return the parameters of the first 70 % of the layers of the body, of its other layers, and of the head."""
    body, head = model
    layers = [module for module in body.modules() if not list(module.children())]
    border = int(0.7 * len(layers))
    return [
        [parameter for layer in group for parameter in layer.parameters()]
        for group in (layers[:border], layers[border:], [head])
    ]


def build_learner(task: Task) -> vision.Learner:
    """Return the learner with the layers frozen as the task requires."""
    transforms = [vision.Flip(), vision.Rotate(max_deg=36, p=1.0)] if task.augment else []
    images = vision.ImageDataLoaders.from_folder(
        task.folder, train="train", valid="val", bs=32, num_workers=2, seed=task.seed,
        item_tfms=vision.Resize(task.size, method=vision.ResizeMethod.Squish), batch_tfms=transforms,
    )  # fmt: skip
    images.add_tfms([vision.Normalize.from_stats(*vision.imagenet_stats)], "after_batch")
    options = {} if task.defaults else {"train_bn": False, "cbs": BnFreeze(), "splitter": split_parameters}
    learner = vision.vision_learner(
        images, getattr(vision.models, task.backbone), pretrained=False, normalize=False,
        metrics=vision.accuracy, **options,
    )  # fmt: skip
    if task.defaults or task.part == "head":
        learner.freeze()
        return learner
    learner.freeze_to(1)
    for layer in learner.model[0].modules():
        if isinstance(layer, vision.nn.BatchNorm2d):
            layer.requires_grad_(False)
    return learner


def main() -> None:
    """Train."""
    task = Task.parse(sys.argv[1:])
    vision.set_seed(task.seed)
    learner = build_learner(task)
    with learner.no_bar(), learner.no_logging():
        started = time.perf_counter()
        if task.defaults and task.part == "last":
            learner.fine_tune(task.epochs)
        else:
            learner.fit_one_cycle(task.epochs, task.rate)
        ended = time.perf_counter()
    print_results(started - STARTED, ended - started, float(learner.recorder.values[-1][-1]), "random")


main()

"""kerastl in Python, as in docs/python.md: `fit` with one phase, and the cache of the task."""

from __future__ import annotations

import sys
import time

STARTED = time.perf_counter()


def main() -> None:
    from _training_peers.task import Task, print_results

    task = Task.parse(sys.argv[1:])
    from kerastl.augment import build_policy
    from kerastl.data import ImageDataset, read_folder
    from kerastl.models import build_backbone, build_model
    from kerastl.recipe import Phase, TopFraction
    from kerastl.training import fit

    def images(split: str) -> ImageDataset:
        collection = read_folder(task.folder / split)
        fresh = split == "train" and task.augment
        return ImageDataset(
            collection.records, class_names=collection.class_names, image_size_px=task.size, batch_size=32,
            shuffle=split == "train", seed=task.seed, cache="memory" if task.in_memory else "none",
            augment=build_policy(task.operations, image_size_px=task.size) if fresh else None,
            views=1 if fresh and task.cache == "boundary" else None,
        )  # fmt: skip

    train, val = images("train"), images("val")
    backbone = build_backbone(task.backbone, weights=task.weights, image_size_px=task.size, **task.options)
    model = build_model(backbone, class_names=train.class_names, seed=task.seed)
    trainable = TopFraction(top_fraction=0.3) if task.part == "last" else "none"
    phase = Phase(
        "phase", epochs=task.epochs, learning_rate=task.rate, trainable=trainable, keep="last",
        batch_norm="frozen", cache=task.cache, cache_precision=task.precision,
    )  # fmt: skip
    started = time.perf_counter()
    history = fit(model, train, val=val, phases=[phase], cache_dir=task.scratch)
    ended = time.perf_counter()
    weights = "random" if task.weights == "none" else "imagenet"
    print_results(started - STARTED, ended - started, history.rows[-1]["val_accuracy"], weights)


main()

"""Accuracy, speed and size of every backbone whose weights are available locally.

    python benchmarks/zoo.py [--presets FOLDER ...] [--tasks fashion_mnist,chest_x_rays] [--seeds 3] [--fine-tune] [--random]
                             [--names lite0,v2] [--image-size-px 96] [--images 600] [--quick]

The backbones are those of keras.applications with ImageNet weights in KERAS_HOME, each at the image size of its weights, and
the KerasHub presets in the folders of `--presets`, at the size of their image converter.

- `fashion_mnist`: clothes, 10 classes, in the files of `--fashion-mnist` (Debian's package dataset-fashion-mnist).
  `--images` images, equally many of each class, are written as 28 x 28 px PNG files; 25 % are for training, 15 % for
  validation, 60 % for testing.
- `chest_x_rays`: X-rays, projection AP or PA, 243 images of 71 patients (doi 10.25835/0090041), in the archive
  `--chest-x-rays`. 35 % of the patients are for training, 15 % for validation and 50 % for testing.

`frozen` trains a head on the features of the frozen backbone. `--fine-tune` then also trains the last 30 % of its layers,
and keeps the result only if it lowers the validation loss. `--random` trains both with random weights:
frozen with BatchNorm statistics of the training images, and all layers from scratch.
Each seed has its own split, head and random weights. The balanced accuracy is that of the test images of all seeds.
Its 95 % interval, and that of the paired difference from the most accurate backbone with the same training, resample whole images
or patients. images/s is the median forward pass of a batch of 32. MB are those of float32 weights, without head. The last line is
one JSON object. `--quick` uses one seed, 200 images of Fashion-MNIST and, except for the head, two epochs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from fashion_mnist import FOLDER, write_test_images

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

CLOTHES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
ASSETS = Path(os.environ.get("KERASTL_TEST_ASSETS", "."))
FRACTIONS = {"fashion_mnist": (0.15, 0.6), "chest_x_rays": (0.15, 0.5)}
"""Fractions of the validation and test images."""
METRIC = "balanced_accuracy"
BATCH_SIZE = 32


@dataclass(frozen=True)
class Candidate:
    """A backbone with its weights.

    Args:
        label: Its row in the table.
        name: Name of the backbone.
        size_px: Side length of the images.
        options: Options of its family.
    """

    label: str
    name: str
    size_px: int
    options: dict[str, Any]


def find_candidates(presets: Sequence[Path], size_px: int | None, names: str) -> list[Candidate]:
    """Return the backbones with weights on this machine.

    Args:
        presets: Folders of KerasHub presets.
        size_px: Replaces the image size of the weights.
        names: Comma-separated parts of labels; only backbones with one of them are returned. Empty returns all.
    """
    from kerastl.models import cached_files, list_backbones, resolve_image_size

    found: dict[str, Candidate] = {}
    for name, backbone in list_backbones().items():
        for _, row, has_top in cached_files(name):
            if not has_top:
                options = dict(row.options)
                label = " ".join([name, *map(str, options.values())])
                side = size_px or row.size_px or backbone.image_size_px
                found[f"{label} {side}"] = Candidate(label, name, side, options)
    for folder in presets:
        name = f"keras_hub/{folder.resolve()}"
        side = size_px or resolve_image_size(name, None)[0]
        found[name] = Candidate(f"keras_hub {folder.name}", name, side, {})
    parts = names.split(",")
    return [candidate for candidate in found.values() if any(part in candidate.label for part in parts)]


def read_task(name: str, arguments: argparse.Namespace, folder: Path) -> Any:
    """Write the images of a task to `folder` and return them as a collection."""
    import kerastl

    if name == "fashion_mnist":
        per_class = arguments.images // len(CLOTHES)
        write_test_images(folder, CLOTHES, per_class=per_class, source=arguments.fashion_mnist)
        return kerastl.read_images(folder)
    with zipfile.ZipFile(arguments.chest_x_rays) as archive:
        archive.extractall(folder)
    (table,) = folder.rglob("labels.csv")
    return kerastl.read_images(table, columns={"path": "file", "label": "projection", "group": "patient_id"})


def training_phases(training: str, is_random: bool, quick: bool) -> list[Any]:
    """Return the phases of `frozen` or `fine_tuned` training."""
    from kerastl import Phase

    def phase(name: str, epochs: int, rate: float, **options: Any) -> Phase:
        epochs = 2 if quick and name != "head" else epochs
        return Phase(name, epochs=epochs, learning_rate=rate, schedule="cosine", **options)

    if is_random and training == "fine_tuned":
        return [phase("scratch", 30, 2e-3, trainable="all", batch_norm="trainable")]
    head = phase("head", 30, 3e-3, trainable="none", batch_norm="frozen")
    if training == "frozen":
        return [head]
    return [head, phase("fine_tune", 10, 1e-4, trainable={"top_fraction": 0.3}, batch_norm="frozen")]


def build(candidate: Candidate, class_names: Sequence[str], seed: int, is_random: bool) -> Any:
    """Return a classifier with a new head."""
    from kerastl.models import build_model, load_backbone

    loaded = load_backbone(
        candidate.name, weights="none" if is_random else "imagenet", image_size_px=candidate.size_px, seed=seed,
        **candidate.options,
    )  # fmt: skip
    return build_model(
        loaded.model, class_names=class_names, seed=seed, num_prefix_tokens=loaded.num_prefix_tokens
    )


def train_and_predict(
    model: Any, collection: Any, phases: Sequence[Any], is_random: bool, seed: int, cache: Path
) -> Any:
    """Train a classifier and return its predictions for the test images."""
    import kerastl
    from kerastl.evaluation import predict
    from kerastl.training import build_statistics_estimator, fit

    splits = collection.train, collection.val, collection.test
    options = {"image_size_px": model.input_shape[1:3], "batch_size": BATCH_SIZE, "seed": seed}
    train, val, test = (
        kerastl.ImageDataset(images, shuffle=images is splits[0], **options) for images in splits
    )
    if is_random and phases[0].trainable == "none":
        build_statistics_estimator(model)(train)
    fit(model, train, val=val, phases=phases, cache_dir=cache)
    return predict(model, test)


def pool(by_seed: Sequence[Any]) -> Any:
    """Return the predictions of all seeds. Those for one image or patient are one group, which is resampled as a whole."""
    from kerastl.evaluation import Predictions

    first = by_seed[0]
    paths = [f"{number}/{path}" for number, part in enumerate(by_seed) for path in part.paths]
    groups = [group or path for part in by_seed for path, group in zip(part.paths, part.groups, strict=True)]
    return Predictions(
        tuple(paths), np.concatenate([part.labels for part in by_seed]),
        np.concatenate([part.logits for part in by_seed]), first.class_names,
        ("test",) * len(paths), tuple(groups), ("",) * len(paths),
    )  # fmt: skip


def measure_speeds(models: Sequence[Any], rounds: int) -> list[float]:
    """Return images per second of a forward pass of each model. The models take turns, so that all have the same load."""
    import tensorflow as tf

    from kerastl.models import fold_for_inference
    from kerastl.training import trace_inference

    passes = []
    for model in models:
        shape = (BATCH_SIZE, *model.input_shape[1:])
        images = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
        passes.append(partial(trace_inference(fold_for_inference(model)), tf.constant(images)))
        passes[-1]()
    seconds: list[list[float]] = [[] for _ in models]
    for _ in range(rounds):
        for forward, durations in zip(passes, seconds, strict=True):
            started = time.perf_counter()
            np.asarray(forward())
            durations.append(time.perf_counter() - started)
    return [BATCH_SIZE / statistics.median(durations) for durations in seconds]


def describe(candidates: Sequence[Candidate], rounds: int) -> list[dict[str, Any]]:
    """Return name, image size, parameters, size and speed of each backbone."""
    models = [build(candidate, ("a", "b"), 0, False) for candidate in candidates]
    rows = []
    for candidate, model, speed in zip(candidates, models, measure_speeds(models, rounds), strict=True):
        parameters = model.count_params() - model.get_layer("head").count_params()
        rows.append({
            "backbone": candidate.label, "image_size_px": candidate.size_px, "parameters": parameters,
            "mb": round(4e-6 * parameters, 1), "images_per_s": round(speed, 1),
        })  # fmt: skip
    return rows


def measure(
    candidate: Candidate, tasks: dict[str, Any], arguments: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Yield one row per kind of weights and training, with the pooled predictions of each task."""
    import keras

    weights = ("pretrained", "random") if arguments.random else ("pretrained",)
    trainings = ("frozen", "fine_tuned") if arguments.fine_tune else ("frozen",)
    for kind, training in product(weights, trainings):
        is_random = kind == "random"
        phases = training_phases(training, is_random, arguments.quick)
        predictions: dict[str, list[Any]] = {task: [] for task in tasks}
        for (task, collection), seed in product(tasks.items(), range(1, arguments.seeds + 1)):
            val, test = FRACTIONS[task]
            keras.utils.set_random_seed(seed)
            model = build(candidate, collection.class_names, seed, is_random)
            split = collection.split(val_fraction=val, test_fraction=test, seed=seed)
            with tempfile.TemporaryDirectory() as cache:
                predictions[task].append(
                    train_and_predict(model, split, phases, is_random, seed, Path(cache))
                )
        pooled = {task: pool(by_seed) for task, by_seed in predictions.items()}
        yield {"weights": kind, "training": training, "predictions": pooled}


def add_scores(rows: list[dict[str, Any]]) -> None:
    """Replace the predictions of each row by its scores, and by differences from the best row with the same training."""
    from kerastl.evaluation import paired_difference, score

    predictions = [row.pop("predictions") for row in rows]
    for task in predictions[0]:
        for row, by_task in zip(rows, predictions, strict=True):
            row[task] = {METRIC: score(by_task[task])["test"]["overall"][METRIC]}
        for training in {row["training"] for row in rows}:
            members = [number for number, row in enumerate(rows) if row["training"] == training]
            best = max(members, key=lambda number: rows[number][task][METRIC]["value"])
            for number in members:
                if number != best:
                    rows[number][task]["difference"] = paired_difference(
                        predictions[best][task], predictions[number][task], metric=METRIC
                    )


def format_estimate(estimate: dict[str, Any]) -> str:
    """Format an estimate with its interval."""
    if estimate["low"] is None:
        return f"{estimate['value']:.3f}"
    return f"{estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"


def print_table(rows: Sequence[dict[str, Any]], tasks: Sequence[str]) -> None:
    """Print the results as a Markdown table."""
    columns = [cell for task in tasks for cell in (task, "difference from the best")]
    heads = ["backbone", "px", "parameters", "MB", "images/s", "weights", "training", *columns]
    print("| " + " | ".join(heads) + " |")
    print("|---|--:|--:|--:|--:|" + "---|" * (2 + len(columns)))
    for row in rows:
        cells = [
            row["backbone"], str(row["image_size_px"]), f"{row['parameters']:,}", f"{row['mb']:.1f}",
            f"{row['images_per_s']:.0f}", row["weights"], row["training"].replace("_", "-"),
        ]  # fmt: skip
        for task in tasks:
            cells.append(format_estimate(row[task][METRIC]))
            difference = row[task].get("difference")
            cells.append(format_estimate(difference) if difference else "best")
        print("| " + " | ".join(cells) + " |")


def main() -> int:
    from kerastl.console import quiet

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--presets", type=Path, nargs="*", default=[], help="folders of KerasHub presets")
    parser.add_argument("--tasks", default=",".join(FRACTIONS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--fine-tune", action="store_true")
    parser.add_argument("--random", action="store_true")
    parser.add_argument("--names", default="", help="parts of the names of the backbones")
    parser.add_argument("--image-size-px", type=int)
    parser.add_argument("--images", type=int, default=600, help="number of Fashion-MNIST images")
    parser.add_argument("--fashion-mnist", type=Path, default=FOLDER)
    parser.add_argument("--chest-x-rays", type=Path, default=ASSETS / "data" / "hannover_cxr.zip")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.images = 1, min(arguments.images, 200)
    names = arguments.tasks.split(",")
    candidates = find_candidates(arguments.presets, arguments.image_size_px, arguments.names)
    if not candidates:
        raise SystemExit(
            "No weights found. Set KERAS_HOME, run `kerastl weights fetch NAME`, or use --presets FOLDER."
        )
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, quiet(True):
        tasks = {name: read_task(name, arguments, Path(folder, name)) for name in names}
        facts = describe(candidates, 3 if arguments.quick else 20)
        for candidate, about in zip(candidates, facts, strict=True):
            for row in measure(candidate, tasks, arguments):
                rows.append(about | row)
                print(f"{candidate.label}, {row['weights']}, {row['training']}", file=sys.stderr, flush=True)
    add_scores(rows)
    print_table(rows, names)
    print(json.dumps({"seeds": arguments.seeds, "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

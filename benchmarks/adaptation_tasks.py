"""Tasks of the adaptation benchmark: two domains, as tables of images or as phantom hospitals."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HOSPITALS = ("a", "b", "c")
DIGITS = ("mnist", "digits")
MARGIN_PX = 4
"""Margin around the digits of MNIST."""
SIZE_PX = 32
SKEWED = (1.0, 0.5, 0.25, 0.16, 0.1)
"""Frequency of each target class relative to the first. The source classes are balanced."""
UNSEEN = 9
UNSEEN_SHARE = 0.2
UNNEEDED = ("other prevalence", "same population", "unseen class")

Datasets = tuple[Any, Any]
"""Images `[n, h, w]`, uint8 in [0, 255], and labels `[n]`, integers."""


@dataclass(frozen=True)
class Task:
    """A source and a target.

    Args:
        source: Reader of the source, as in a recipe.
        target: Reader of the target, as in a recipe.
        size_px: Height and width of the images.
        metric: Key of the metric in `scores.json`.
    """

    source: str
    target: str
    size_px: int
    metric: str


@dataclass(frozen=True)
class Sizes:
    """Sizes of the tasks.

    Args:
        images: Maximum number of images per domain of digits.
        patients: Number of phantom patients of source and target.
        mnist: The file of MNIST.
    """

    images: int
    patients: tuple[int, int]
    mnist: Path | None


def make_task(name: str, folder: Path, sizes: Sizes, seed: int) -> Task:
    """Return a task by name. The images of digits are written to `folder`.

    Args:
        name: `a to b` with two hospitals or two datasets of digits, or a name from `UNNEEDED`.
        folder: A new folder, to which recipes refer.
        sizes: Sizes of the tasks.
        seed: Seed for the choice of images.

    Raises:
        SystemExit: Unknown task, or the file of MNIST is missing.
    """
    if name in UNNEEDED:
        source, target = make_domains(name, np.random.default_rng(seed))
        labeled = name != UNNEEDED[2]
    else:
        first, _, second = name.partition(" to ")
        if first in HOSPITALS and second in HOSPITALS:
            return make_phantom_task(first, second, sizes.patients)
        if first not in DIGITS or second not in DIGITS or first == second:
            raise SystemExit(
                f"No such task: '{name}'. Allowed: 'X to Y' with X and Y from a, b, c, or from mnist, digits."
            )
        rng, labeled = np.random.default_rng(seed), True
        source, target = (
            sample_images(load_digit_images(kind, sizes.mnist), sizes.images, rng) for kind in (first, second)
        )
    readers = (
        write_table(folder / "source", *source, labeled=True),
        write_table(folder / "target", *target, labeled=labeled),
    )
    return Task(*readers, size_px=SIZE_PX, metric="balanced_accuracy")


def make_phantom_task(first: str, second: str, patients: tuple[int, int]) -> Task:
    """Return a task of two phantom hospitals. The metric is the AUC by patient."""
    source, target = (
        f"{{name: phantom, hospital: {hospital}, patients: {count}}}"
        for hospital, count in zip((first, second), patients, strict=True)
    )
    return Task(source, target, size_px=64, metric="group_auc")


def load_digit_images(name: str, mnist: Path | None) -> Datasets:
    """Return all images and labels of `digits` or `mnist`. MNIST is cropped to the digits.

    Raises:
        SystemExit: The file of MNIST is missing.
    """
    if name == "digits":
        from sklearn.datasets import load_digits

        dataset = load_digits()
        return (dataset.images * (255 / 16)).astype(np.uint8), dataset.target
    if mnist is None:
        raise SystemExit("This task needs MNIST. Use --mnist FILE.npz with the file in the format of Keras.")
    with np.load(mnist) as file:
        keys = ("x_train", "y_train") if "x_train" in file else ("mnist_x", "mnist_y")
        images, labels = (file[key] for key in keys)
    inner = slice(MARGIN_PX, -MARGIN_PX)
    return images[:, inner, inner], labels


def sample_images(images: Datasets, count: int, rng: np.random.Generator) -> Datasets:
    """Return `count` random images, or all if there are fewer."""
    chosen = rng.permutation(len(images[1]))[:count]
    return images[0][chosen], images[1][chosen]


def make_domains(name: str, rng: np.random.Generator) -> tuple[Datasets, Datasets]:
    """Return source and target of a task without any gain from adaptation. Each gets half of scikit-learn's digits, per class.

    Args:
        name: A name from `UNNEEDED`. Other prevalence: five classes, balanced in the source and with prevalences proportional to
            `SKEWED` in the target. Same population: the other half. Unseen class: the source lacks the class `UNSEEN`, a fraction
            `UNSEEN_SHARE` of the target.
        rng: Random generator for the choice of images.
    """
    images, labels = load_digit_images("digits", None)
    halves = [np.array_split(rng.permutation(np.flatnonzero(labels == digit)), 2) for digit in range(10)]
    source, target = ([half[side] for half in halves] for side in (0, 1))
    if name == UNNEEDED[0]:
        source = source[: len(SKEWED)]
        target = [
            indices[: round(len(indices) * part)] for indices, part in zip(target, SKEWED, strict=False)
        ]
    elif name == UNNEEDED[2]:
        unseen = target.pop(UNSEEN)
        source.pop(UNSEEN)
        known = round(len(unseen) * (1 / UNSEEN_SHARE - 1) / len(target))
        target = [*(indices[:known] for indices in target), unseen]
    first, second = (rng.permutation(np.concatenate(indices)) for indices in (source, target))
    return (images[first], labels[first]), (images[second], labels[second])


def write_table(folder: Path, images: Any, labels: Sequence[int], *, labeled: bool) -> str:
    """Write digits as PNG files and a table of labels. Return the reader for a recipe.

    Args:
        folder: A new folder, or the result of an earlier call with the same images.
        images: `[n, h, w]`, uint8.
        labels: `[n]`.
        labeled: Whether to write the labels. If false, the column `label` is empty.
    """
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / f"{number:05d}.png"
        Image.fromarray(pixels).resize((SIZE_PX, SIZE_PX), Image.Resampling.BILINEAR).save(path)
        rows.append((path.name, str(int(label)) if labeled else ""))
    table = folder / "labels.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label"), *rows])
    return f"{{name: table, path: {table}}}"

"""Tasks for the benchmark of adaptation: two domains, written down as tables of images or named as phantom hospitals."""

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
"""What stands free around each of MNIST's digits."""
SIZE_PX = 32
SKEWED = (1.0, 0.5, 0.25, 0.16, 0.1)
"""How often each class of the target is shown, beside the first; the source shows all alike."""
UNSEEN = 9
UNSEEN_SHARE = 0.2
UNNEEDED = ("other prevalence", "same population", "unseen class")

Datasets = tuple[Any, Any]
"""`[n, h, w]` uint8 in [0, 255], and `[n]` whole numbers."""


@dataclass(frozen=True)
class Task:
    """A source and a target.

    Args:
        source, target: readers, as a recipe has them.
        size_px: side of the images.
        metric: of `scores.json`, by which methods are told.
    """

    source: str
    target: str
    size_px: int
    metric: str


@dataclass(frozen=True)
class Sizes:
    """How large tasks are.

    Args:
        images: of each domain of digits, at most.
        patients: of the source and of the target among phantoms.
        mnist: MNIST's file.
    """

    images: int
    patients: tuple[int, int]
    mnist: Path | None


def make_task(name: str, folder: Path, sizes: Sizes, seed: int) -> Task:
    """Return a task by its name, its images written under `folder` where they are digits.

    Args:
        name: `a to b`, with two hospitals or two kinds of digits, or one of `UNNEEDED`.
        folder: new; recipes name it.
        sizes: how many.
        seed: which digits are drawn.

    Raises:
        SystemExit: there is no such task, or MNIST is asked for and its file is not named.
    """
    if name in UNNEEDED:
        source, target = make_domains(name, np.random.default_rng(seed))
        labeled = name != UNNEEDED[2]
    else:
        first, _, second = name.partition(" to ")
        if first in HOSPITALS and second in HOSPITALS:
            return make_phantom_task(first, second, sizes.patients)
        if first not in DIGITS or second not in DIGITS or first == second:
            raise SystemExit(f"No such task: '{name}'. Two of a, b, c; two of mnist, digits.")
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
    """Return a task of two phantom hospitals, told by the AUC of patients."""
    source, target = (
        f"{{name: phantom, hospital: {hospital}, patients: {count}}}"
        for hospital, count in zip((first, second), patients, strict=True)
    )
    return Task(source, target, size_px=64, metric="group_auc")


def load_digit_images(name: str, mnist: Path | None) -> Datasets:
    """Return all digits of one kind; MNIST's without their margin.

    Raises:
        SystemExit: MNIST is asked for, and its file is not named.
    """
    if name == "digits":
        from sklearn.datasets import load_digits

        dataset = load_digits()
        return (dataset.images * (255 / 16)).astype(np.uint8), dataset.target
    if mnist is None:
        raise SystemExit("MNIST lies in no package: --mnist FILE.npz, as Keras keeps it.")
    with np.load(mnist) as file:
        keys = ("x_train", "y_train") if "x_train" in file else ("mnist_x", "mnist_y")
        images, labels = (file[key] for key in keys)
    inner = slice(MARGIN_PX, -MARGIN_PX)
    return images[:, inner, inner], labels


def sample_images(images: Datasets, count: int, rng: np.random.Generator) -> Datasets:
    """Return `count` of the images, or all where there are fewer."""
    chosen = rng.permutation(len(images[1]))[:count]
    return images[0][chosen], images[1][chosen]


def make_domains(name: str, rng: np.random.Generator) -> tuple[Datasets, Datasets]:
    """Return source and target of a task in which adapting has nothing to win: scikit-learn's digits, halved class by class.

    Args:
        name: of `UNNEEDED`. Other prevalence: five classes, as frequent as each other at the source and as `SKEWED` says at the
            target. Same population: the other half. Unseen class: the source lacks `UNSEEN`, which is `UNSEEN_SHARE` of
            the target.
        rng: which images.
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
        strange = target.pop(UNSEEN)
        source.pop(UNSEEN)
        known = round(len(strange) * (1 / UNSEEN_SHARE - 1) / len(target))
        target = [*(indices[:known] for indices in target), strange]
    first, second = (rng.permutation(np.concatenate(indices)) for indices in (source, target))
    return (images[first], labels[first]), (images[second], labels[second])


def write_table(folder: Path, images: Any, labels: Sequence[int], *, labeled: bool) -> str:
    """Write digits as PNG with a table beside them; return its reader.

    Args:
        folder: new, or as an earlier call with the same images left it.
        images: `[n, h, w]` uint8.
        labels: `[n]`.
        labelled: false: the column `label` is empty.
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

"""From the graph to the bytes of a LiteRT file, by TensorFlow's own converter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from natsort import natsorted

from kerastl.console import track
from kerastl.errors import RequestError
from kerastl.evaluation.metrics import OVERALL
from kerastl.evaluation.predictions import PREDICTIONS, Predictions, image_under, read_predictions
from kerastl.evaluation.trained_model import Trained
from kerastl.export.converted import INPUT, InferenceGraph, pixels_of
from kerastl.export.probe_images import TEST_SPLITS
from kerastl.runs import read_csv

Images = npt.NDArray[np.float32]


def converted(network: InferenceGraph, quantize: str | None = None, images: Images | None = None) -> bytes:
    """Return a LiteRT file of LiteRT's own operations, float32 in and out.

    Args:
        network: the graph.
        quantize: None, `float16` or `int8`.
        images: `[n, size, size, 3]` float32 in [0, 255], for `int8`: the ranges of activations are those they cause.

    Raises:
        Exception: of the converter's own kinds, where an operation has no counterpart.
    """
    # The second argument keeps variables alive; there are none.
    converter = tf.lite.TFLiteConverter.from_concrete_functions([network.function()], tf.Module())
    if quantize is None:
        return bytes(converter.convert())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
        return bytes(converter.convert())
    assert images is not None
    return _int8(converter, images)


def _int8(converter: Any, images: Images) -> bytes:
    """Quantize all but the softmax, whose 8-bit kernel answers in steps of 1/256: too coarse to rank images by."""

    def examples() -> Iterator[dict[str, Images]]:
        for image in images:
            yield {INPUT: image[None]}

    converter.representative_dataset = examples
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=["SOFTMAX"])
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter, debug_dataset=examples, debug_options=options
    )
    return bytes(debugger.get_nondebug_quantized_model())


SPLITS = ("train", "target_train")
SPLIT_TABLE = "split.csv"
MOST_IMAGES = 100
"""The converter's own documentation asks for a hundred or so; more move the ranges little and cost seconds."""

GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Calibration:
    """Training images of a run.

    Args:
        images: `[n, size, size, 3]` float32 in [0, 255].
        told: how many, of all and of each class; nothing that leads back to one.
    """

    images: npt.NDArray[np.float32]
    told: dict[str, Any]


def calibration_of(trained: Trained, most: int = MOST_IMAGES) -> Calibration:
    """Return training images of the run, spread over domains and classes, and evenly within each.

    Raises:
        RequestError: no training image of the run can be opened.
    """
    labels, images = [], []
    for label, image in islice(_readable(trained), most):
        labels.append(label)
        images.append(image)
    if not images:
        raise RequestError(
            f"int8 needs training images of the run to be calibrated on, and none that {SPLIT_TABLE} names can be "
            "opened. Put them back where they were, or: --quantize float16"
        )
    counts = Counter(label or "not labelled" for label in labels)
    told = {"images": len(images), "classes": dict(sorted(counts.items()))}
    return Calibration(np.stack(images), told)


def _readable(trained: Trained) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    for label, file in _in_turn(_files(trained)):
        for image in pixels_of([file], trained):
            yield label, image


def _files(trained: Trained) -> dict[tuple[str, str], list[Path]]:
    """Return the files of training images by split and label."""
    table = trained.folder / SPLIT_TABLE if trained.folder is not None else None
    found: dict[tuple[str, str], list[Path]] = {}
    for row in read_csv(table) if table is not None and table.is_file() else []:
        if row.get("split") not in SPLITS:
            continue
        file = image_under(trained.root_of(row["split"]), row["path"])
        if file is not None:
            found.setdefault((row["split"], row["label"]), []).append(file)
    return found


def _in_turn(files: dict[tuple[str, str], list[Path]]) -> Iterator[tuple[str, Path]]:
    """Yield one file of each kind in turn; the first ones of a kind are from all over its natural order."""
    kinds = [
        [(label, file) for file in _spread(natsorted(files[split, label]))] for split, label in sorted(files)
    ]
    turns: Iterable[tuple[tuple[str, Path] | None, ...]] = zip_longest(*kinds)
    return (one for turn in turns for one in turn if one is not None)


def _spread(files: list[Path]) -> list[Path]:
    """Return files in another order, of which any beginning is spread evenly over theirs."""
    places = sorted(range(len(files)), key=lambda place: place * GOLDEN % 1)
    return [files[place] for place in places]


Array = np.ndarray[Any, Any]
Ask = Callable[[Array], Array]

BATCH_SIZE = 32
TOLD = ("balanced_accuracy", "auc")


def cost_of(trained: Trained, *, before: Ask, after: Ask) -> dict[str, dict[str, Any]]:
    """Return for each test split that has images what changed between two files of a model.

    Args:
        trained: of a run folder, whose `predictions.csv` names test images and labels.
        before, after: from images `[n, size, size, 3]` to probabilities `[n, classes]`.

    Returns:
        By split: `images` (that could be opened), `labels_differ` (how many of them), `largest_difference` of a
        probability, and `balanced_accuracy` and `auc`, each `{"before", "after"}`, on those with a label; None where a
        figure has no value. Empty where no test image can be opened.
    """
    told = {}
    for split in TEST_SPLITS:
        answers = _answers(trained, split, before, after)
        if answers is not None:
            told[split] = _compared(*answers)
    return told


def _answers(
    trained: Trained, split: str, before: Ask, after: Ask
) -> tuple[Predictions, Array, Array] | None:
    """Return the rows of a split whose images can be opened, and both files' answers."""
    table = trained.folder / PREDICTIONS if trained.folder is not None else None
    if table is None or not table.is_file():
        return None
    of_split = read_predictions(table).of(split)
    if of_split.class_names != trained.class_names:
        return None
    rows: list[int] = []
    answers: list[tuple[Array, Array]] = []
    pictures = _images(trained, split, of_split.paths)
    while batch := list(islice(pictures, BATCH_SIZE)):
        rows += [row for row, _ in batch]
        images = np.stack([image for _, image in batch])
        answers.append((before(images), after(images)))
    if not rows:
        return None
    first, second = (np.concatenate(one) for one in zip(*answers, strict=True))
    return of_split.take(rows), first, second


def _images(trained: Trained, split: str, paths: Sequence[str]) -> Iterator[tuple[int, Array]]:
    root = trained.root_of(split)
    for row, path in enumerate(track(paths, "comparing")):
        file = image_under(root, path)
        for image in pixels_of([file] if file is not None else [], trained):
            yield row, image


def _compared(rows: Predictions, before: Array, after: Array) -> dict[str, Any]:
    told: dict[str, Any] = {
        "images": len(before),
        "labels_differ": int((before.argmax(axis=1) != after.argmax(axis=1)).sum()),
        "largest_difference": float(np.abs(before - after).max()),
    }
    for metric in TOLD:
        told[metric] = {
            "before": _figure(metric, rows.labels, before),
            "after": _figure(metric, rows.labels, after),
        }
    return told


def _figure(metric: str, labels: Array, probabilities: Array) -> float | None:
    labelled = labels >= 0
    rows = probabilities[labelled].astype(np.float64)
    if not len(rows):
        return None
    value = float(OVERALL[metric](labels[labelled], rows, np.ones((1, len(rows))))[0])
    return None if np.isnan(value) else value

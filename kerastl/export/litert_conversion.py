"""Convert a graph to LiteRT with TensorFlow's converter, calibrate int8, and measure the effect of quantization."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from natsort import natsorted

from kerastl.console import track
from kerastl.data.convert import UnreadableError, read_image
from kerastl.data.decode import decode_images
from kerastl.errors import RequestError
from kerastl.evaluation.metrics import OVERALL
from kerastl.evaluation.predictions import read_run_predictions, resolve_image
from kerastl.evaluation.trained_model import Trained, read_description
from kerastl.export.converted import INPUT, InferenceGraph
from kerastl.export.findings import quantization_changes
from kerastl.export.postprocess import Postprocessing, operating_points
from kerastl.runs import TEST_SPLITS, read_csv

Images = npt.NDArray[np.float32]
Predict = Callable[[Images], Images]
Key = TypeVar("Key")

TRAIN_SPLITS = ("train", "target_train")
SPLIT_TABLE = "split.csv"
MAX_CALIBRATION_IMAGES = 100
"""The converter's documentation recommends about a hundred; more change the ranges little and cost seconds."""
GOLDEN_RATIO = (5**0.5 - 1) / 2
BATCH_SIZE = 32
EFFECT_METRICS = ("balanced_accuracy", "auc")


def convert_to_litert(
    graph: InferenceGraph, quantize: str | None = None, images: Images | None = None
) -> bytes:
    """Return a LiteRT file that uses only LiteRT's own operations, with float32 input and output.

    Args:
        graph: The graph of the model.
        quantize: None, `float16` or `int8`.
        images: `[n, height, width, 3]` float32 in [0, 255], required by `int8` to calibrate the ranges of
            activations.

    Raises:
        Exception: The converter does not support an operation.
    """
    # The second argument keeps variables alive; there are none.
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph.function()], tf.Module())
    if quantize is None:
        return bytes(converter.convert())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
        return bytes(converter.convert())
    assert images is not None
    return _quantize_int8(converter, images)


def _quantize_int8(converter: Any, images: Images) -> bytes:
    """Quantize all but the softmax: its 8-bit kernel returns multiples of 1/256, too coarse to rank images."""

    def examples() -> Iterator[dict[str, Images]]:
        for image in images:
            yield {INPUT: image[None]}

    converter.representative_dataset = examples
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=["SOFTMAX"])
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter, debug_dataset=examples, debug_options=options
    )
    return bytes(debugger.get_nondebug_quantized_model())


def read_calibration(trained: Trained, limit: int = MAX_CALIBRATION_IMAGES) -> tuple[Images, dict[str, Any]]:
    """Return training images of the run, spread over splits and classes, and evenly within each.

    Returns:
        The images `[n, height, width, 3]` float32 in [0, 255]; and `{"images", "classes"}`, numbers of images in
        all and of each class, which identify no image.

    Raises:
        RequestError: No training image of the run can be opened.
    """
    chosen = list(islice(_decoded(_interleave(_training_files(trained)), trained), limit))
    if not chosen:
        raise RequestError(
            f"int8 is calibrated on training images of the run, and no image of {SPLIT_TABLE} can be opened. Restore the "
            "images, or use --quantize float16"
        )
    counts = Counter(label or "unlabeled" for label, _ in chosen)
    summary = {"images": len(chosen), "classes": dict(sorted(counts.items()))}
    return np.stack([image for _, image in chosen]), summary


def _training_files(trained: Trained) -> dict[tuple[str, str], list[Path]]:
    """Return the files of training images by split and label; none without a run folder."""
    files: dict[tuple[str, str], list[Path]] = {}
    if trained.folder is None or not (trained.folder / SPLIT_TABLE).is_file():
        return files
    description = read_description(trained.folder)
    for row in read_csv(trained.folder / SPLIT_TABLE):
        if row.get("split") not in TRAIN_SPLITS:
            continue
        file = resolve_image(description.root_of(row["split"]), row["path"])
        if file is not None:
            files.setdefault((row["split"], row["label"]), []).append(file)
    return files


def _interleave(files: dict[tuple[str, str], list[Path]]) -> Iterator[tuple[str, Path]]:
    """Yield one label and file of each split and class in turn, each spread over its natural order."""
    columns = [
        [(label, file) for file in _spread(natsorted(paths))] for (_, label), paths in sorted(files.items())
    ]
    rows: Iterable[tuple[tuple[str, Path] | None, ...]] = zip_longest(*columns)
    return (item for row in rows for item in row if item is not None)


def _spread(files: list[Path]) -> list[Path]:
    """Return files in another order, of which every prefix is spread evenly over the original one."""
    order = sorted(range(len(files)), key=lambda index: index * GOLDEN_RATIO % 1)
    return [files[index] for index in order]


def _decoded(files: Iterable[tuple[Key, Path | None]], trained: Trained) -> Iterator[tuple[Key, Images]]:
    """Yield the key and the image, `[height, width, 3]` float32, of each file that can be decoded."""
    max_pixels = trained.max_pixels
    for key, file in files:
        if file is None:
            continue
        with suppress(UnreadableError, tf.errors.InvalidArgumentError):
            encoded = read_image(file, max_pixels=max_pixels)
            (image,) = decode_images(
                [encoded], trained.image_size_px, trained.resize, trained.window, max_pixels
            )
            yield key, image


def measure_effect(
    trained: Trained, postprocessing: Postprocessing, *, before: Predict, after: Predict
) -> dict[str, dict[str, Any]]:
    """Return how the predictions for the test images change between two files of a model.

    Args:
        trained: The model of a run folder that contains `predictions.csv`.
        postprocessing: What both apply to the logits.
        before: A function from images `[n, height, width, 3]` to probabilities `[n, classes]`.
        after: The same function after quantization.

    Returns:
        By test split: `images` (that can be opened), `labels_differ` (number of them), `largest_difference`
        of a probability, `changed` (the reasons of `quantization_changes`), and `balanced_accuracy` and `auc` of labeled images, each `{"before", "after"}`,
        None if undefined. Splits without images are omitted.
    """
    if trained.folder is None:
        return {}
    run_predictions = read_run_predictions(trained.folder)
    if run_predictions is None:
        return {}
    description, thresholds = read_description(trained.folder), operating_points(trained.folder)
    effect: dict[str, Any] = {}
    for split in TEST_SPLITS:
        predictions = run_predictions.of(split)
        root, paths = description.root_of(split), track(predictions.paths, "comparing")
        decoded = _decoded(enumerate(resolve_image(root, path) for path in paths), trained)
        rows: list[int] = []
        probabilities: list[tuple[Images, Images]] = []
        while batch := list(islice(decoded, BATCH_SIZE)):
            rows += [row for row, _ in batch]
            images = np.stack([image for _, image in batch])
            probabilities.append((before(images), after(images)))
        if rows:
            first, second = (np.concatenate(parts) for parts in zip(*probabilities, strict=True))
            changed = quantization_changes(second, first, trained.class_names, postprocessing, thresholds)
            effect[split] = _compare(predictions.labels[rows], first, second) | {"changed": changed}
    return effect


def _compare(labels: npt.NDArray[Any], before: Images, after: Images) -> dict[str, Any]:
    is_labeled = labels >= 0
    report: dict[str, Any] = {
        "images": len(before),
        "labels_differ": int((before.argmax(axis=1) != after.argmax(axis=1)).sum()),
        "largest_difference": float(np.abs(before - after).max()),
    }
    for metric in EFFECT_METRICS:
        report[metric] = {
            name: _score(metric, labels[is_labeled], rows[is_labeled].astype(np.float64))
            for name, rows in (("before", before), ("after", after))
        }
    return report


def _score(metric: str, labels: npt.NDArray[Any], rows: npt.NDArray[np.float64]) -> float | None:
    value = float(OVERALL[metric](labels, rows, np.ones((1, len(rows))))[0]) if len(rows) else np.nan
    return None if np.isnan(value) else value

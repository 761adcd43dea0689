"""Effect of the caches on accuracy.

    python benchmarks/fast_paths.py [--quick] [--seeds 5] [--table labels.csv] [--images fashion,xrays] [--parts head,last]

Each path trains the same phase as the plain path (`cache: none`), with the same images, initial weights, order and dropout.
Images: 300 training and 400 test images of Fashion-MNIST (Xiao, Rasul & Vollgraf 2017, arXiv:1708.07747, from the Debian
package dataset-fashion-mnist or KERASTL_FASHION_MNIST), enlarged to 96 px; and those of a table with the columns file, projection
and patient_id: the Hannover chest X-rays (doi 10.25835/0090041), with half of the patients for testing. The network is MobileNetV2,
alpha 0.35, with ImageNet weights, which must be in KERAS_HOME. A seed determines the split, the head, the order and the dropout.

Reported for each path: test accuracy, mean and standard deviation over the seeds; the mean of its per-seed differences from
the plain path with a 95 % interval (Student's t); and the fraction of test images with another predicted class.
Verdict, with s the standard deviation of the plain path over the seeds: `within seed spread` if the absolute mean difference
is at most s, and its interval contains 0 or lies within [-s, s]; else `better` or `worse`. The last line is one JSON object.

To add a path, add a line to `PATHS`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fashion_mnist import write_test_images

Array = np.ndarray[Any, Any]
SIZE_PX = 96
PLAIN = "cache: none"

PATHS: dict[str, dict[str, dict[str, Any]]] = {
    # part: {path: settings of the phase}. The first path of each part is the plain path.
    "head": {
        PLAIN: {},
        "features, float32": {"cache": "features"},
        "features, bfloat16": {"cache": "features", "cache_precision": "bfloat16"},
        "features, uint8": {"cache": "features", "cache_precision": "uint8"},
    },
    "last": {
        PLAIN: {},
        "boundary, float32": {"cache": "boundary"},
        "boundary, bfloat16": {"cache": "boundary", "cache_precision": "bfloat16"},
        "boundary, uint8": {"cache": "boundary", "cache_precision": "uint8"},
    },
}


@dataclass(frozen=True)
class Sources:
    """Train and test images of one seed, each a `Collection`."""

    train: Any
    test: Any


def split_images(collection: Any, *, test_fraction: float, seed: int) -> Sources:
    """Split images for one seed."""
    from dataclasses import replace

    from kerastl.data import split

    whole = split(collection, val_fraction=0.0, test_fraction=test_fraction, seed=seed)
    parts = [
        replace(whole, records=tuple(record for record in whole.records if record.split == name))
        for name in ("train", "test")
    ]
    return Sources(*parts)


class Trials:
    """A network that is trained along each path from the same initial weights.

    Args:
        weights: As in `build_backbone`.
    """

    def __init__(self, weights: str = "imagenet") -> None:
        import keras

        from kerastl.models import build_backbone

        self.backbone = build_backbone("mobilenet_v2", weights=weights, image_size_px=SIZE_PX, alpha=0.35)
        self.initial_weights = [keras.ops.convert_to_numpy(weight).copy() for weight in self.backbone.weights]

    def logits(self, sources: Sources, part: str, epochs: int, seed: int) -> tuple[dict[str, Array], Array]:
        """Train along each path of a part. Return the test logits `{path: [n, classes]}` and the test labels."""
        import keras

        from kerastl.models import build_model
        from kerastl.training import fit

        train, test = make_dataset(sources.train, seed, shuffle=True), make_dataset(sources.test, seed)
        for variable, value in zip(self.backbone.weights, self.initial_weights, strict=True):
            variable.assign(value)
        model = build_model(self.backbone, class_names=train.class_names, seed=seed)
        first = [(variable, keras.ops.convert_to_numpy(variable).copy()) for variable in model.variables]
        forward = trace_model(model)
        logits: dict[str, Array] = {}
        with tempfile.TemporaryDirectory() as scratch:
            for name, sets in PATHS[part].items():
                for variable, value in first:
                    variable.assign(value)
                fit(model, train, phases=[make_phase(part, epochs, sets)], cache_dir=Path(scratch))
                batches = [forward(batch[0]).numpy() for batch in test.batches(0)]
                logits[name] = np.concatenate(batches)
        return logits, np.asarray(test.labels)


def make_dataset(collection: Any, seed: int, *, shuffle: bool = False) -> Any:
    """Return an `ImageDataset` that decodes each image once."""
    from kerastl.data import ImageDataset

    return ImageDataset(
        collection.records, class_names=collection.class_names, image_size_px=SIZE_PX, batch_size=32,
        shuffle=shuffle, seed=seed, cache="memory",
    )  # fmt: skip


def make_phase(part: str, epochs: int, sets: dict[str, Any]) -> Any:
    """Return the phase of a part with the settings of a path."""
    from kerastl.recipe import Phase, TopFraction

    last = part == "last"
    return Phase(
        part, epochs=epochs, learning_rate=3e-4 if last else 3e-3, keep="last",
        trainable=TopFraction(top_fraction=0.3) if last else "none",
        **({"batch_norm": "frozen", "cache": "none"} | sets),
    )  # fmt: skip


def trace_model(model: Any) -> Callable[[Any], Any]:
    """Return the traced model in inference mode, shared by all paths."""
    import tensorflow as tf

    shape = [None, *model.input_shape[1:]]
    return tf.function(
        lambda images: model(images, training=False), input_signature=[tf.TensorSpec(shape, tf.float32)]
    )


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of a mean over the seeds (Student's t)."""
    from scipy import stats

    if len(differences) < 2:
        return float("-inf"), float("inf")
    error = statistics.stdev(differences) / len(differences) ** 0.5
    margin = float(stats.t.ppf(0.975, len(differences) - 1)) * error
    mean = statistics.mean(differences)
    return mean - margin, mean + margin


def verdict(differences: Sequence[float], spread: float) -> str:
    """Return the verdict of a path by the rule in the module docstring.

    Args:
        differences: Accuracy differences from the plain path, one per seed.
        spread: Standard deviation of the plain path over the seeds.
    """
    mean = statistics.mean(differences)
    low, high = interval(differences)
    inside = low <= 0 <= high or (-spread <= low and high <= spread)
    if abs(mean) <= spread and inside:
        return "within seed spread"
    return "better" if mean > 0 else "worse"


def compare_paths(runs: Sequence[tuple[dict[str, Array], Array]]) -> dict[str, dict[str, Any]]:
    """Return the results of each path, from the logits and labels of every seed."""
    correct = {
        name: [float(np.mean(logits[name].argmax(1) == labels)) for logits, labels in runs]
        for name in runs[0][0]
    }
    plain = correct[PLAIN]
    spread = statistics.stdev(plain) if len(plain) > 1 else 0.0
    comparison = {}
    for name, values in correct.items():
        gaps = [value - without for value, without in zip(values, plain, strict=True)]
        low, high = interval(gaps)
        other = [float(np.mean(logits[name].argmax(1) != logits[PLAIN].argmax(1))) for logits, _ in runs]
        comparison[name] = {
            "accuracy": statistics.mean(values),
            "sd": statistics.stdev(values) if len(values) > 1 else 0.0,
            "difference": statistics.mean(gaps), "low": low, "high": high,
            "changed_predictions": statistics.mean(other),
            "verdict": "the plain path" if name == PLAIN else verdict(gaps, spread),
        }  # fmt: skip
    return comparison


def print_rows(title: str, rows: dict[str, dict[str, Any]]) -> None:
    """Print a Markdown table in percentage points."""
    print(f"\n| {title} | accuracy | SD | difference, 95 % | changed predictions | |")
    print("|---|---|---|---|---|---|")
    for name, row in rows.items():
        gap = f"{100 * row['difference']:+.2f} ({100 * row['low']:+.2f} to {100 * row['high']:+.2f})"
        print(
            f"| {name} | {100 * row['accuracy']:.1f} | {100 * row['sd']:.1f} | {'' if name == PLAIN else gap} "
            f"| {100 * row['changed_predictions']:.1f} | {row['verdict']} |",
            flush=True,
        )


def collections(wanted: Sequence[str], table: str | None, folder: Path) -> dict[str, Any]:
    """Return `{name: (images, test fraction)}`."""
    from kerastl.data import read_folder, read_table
    from kerastl.data.readers.table import Columns

    chosen: dict[str, Any] = {}
    if "fashion" in wanted:
        write_test_images(folder, [str(label) for label in range(10)], per_class=70)
        chosen["Fashion-MNIST"] = (read_folder(folder), 4 / 7)
    if "xrays" in wanted and table:
        columns = Columns(path="file", label="projection", group="patient_id")
        chosen["chest X-rays"] = (read_table(table, columns=columns), 0.5)
    return chosen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--table", help="table of chest X-rays; without it they are left out")
    parser.add_argument("--images", default="fashion,xrays")
    parser.add_argument(
        "--parts", default=",".join(PATHS), help="head: train only the head; last: train the last 30%%"
    )
    parser.add_argument("--quick", action="store_true", help="two seeds of one epoch")
    arguments = parser.parse_args()
    epochs = {"head": 1, "last": 1} if arguments.quick else {"head": 10, "last": 4}
    seeds = range(1, (2 if arguments.quick else arguments.seeds) + 1)
    comparisons: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        wanted = arguments.images.split(",")
        datasets = collections(wanted, arguments.table, Path(folder) / "fashion")
        trials = Trials()
        for kind, (collection, fraction) in datasets.items():
            for part in arguments.parts.split(","):
                runs = []
                for seed in seeds:
                    started = time.perf_counter()
                    sources = split_images(collection, test_fraction=fraction, seed=seed)
                    runs.append(trials.logits(sources, part, epochs[part], seed))
                    seconds = time.perf_counter() - started
                    print(f"{kind}, {part}, seed {seed}: {seconds:.0f} s", file=sys.stderr)
                comparisons[f"{kind}, {part}"] = rows = compare_paths(runs)
                print_rows(f"{kind}, {part}", rows)
    print(json.dumps({"seeds": len(seeds), "paths": comparisons}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Speed of exports, from file bytes to predictions: kerastl, Keras's export, OpenVINO and ONNX Runtime.

    python benchmarks/serving.py [--quick] [--rows a,b] [--batches 1,8,32] [--rounds 5] [--threads 0]

The model is MobileNetV2 at 224 px, with ImageNet weights if they are in Keras's cache, else random weights. The images are JPEG files
of 500 x 375 pixels. Requests are sequential, and the rows are measured in turn in each round. The table shows the median and the 95th
percentile of the request duration over all rounds, images per second, and the speed relative to `keras`: the median over
rounds of the ratio of medians within a round.

- `kerastl` is the output of `kerastl export` in a TensorFlow session: files in, predictions out.
  `kerastl-unfolded` keeps BatchNorm, `kerastl-bfloat16` computes in bfloat16 (slow on a CPU without bfloat16 instructions).
- `keras` is the output of `model.export()` of the same network in the same kind of session. The images are decoded and
  resized in Python by Pillow, as in `keras.utils.load_img`; in `keras-tf` by `tf.io.decode_image` and `tf.image.resize`.
  The cost of sending 600 kB of floats per image to a server instead of the file is not included.
- `openvino` and `onnxruntime` run the converted export of Keras in their own environment and process, with Pillow.

`difference` is the largest difference of a probability from `kerastl-unfolded`, and the number of images with another predicted
class. Pillow and TensorFlow downscale images slightly differently. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _serving_peers.models import SIZE_PX, write_images, write_models
from _serving_peers.rows import BASELINE, ROWS, Measured, Setting, measure_row
from peer_environments import Unavailable

REFERENCE = "kerastl-unfolded"


def measure(
    setting: Setting, names: Sequence[str], rounds: int
) -> tuple[dict[str, list[Measured]], dict[str, str]]:
    """Measure all rows in turn in each round. Return the measurements, and the reasons for missing rows."""
    rounds_by_row: dict[str, list[Measured]] = {name: [] for name in names}
    missing: dict[str, str] = {}
    for number in range(rounds):
        for name in [row for row in names if row not in missing]:
            print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr, flush=True)
            try:
                rounds_by_row[name].append(measure_row(setting, name))
            except (Unavailable, OSError) as error:
                missing[name] = str(error)
    return {name: rows for name, rows in rounds_by_row.items() if name not in missing}, missing


def summarize_row(rounds_by_row: dict[str, list[Measured]], name: str, batch: int) -> dict[str, float]:
    """Return the results of one row for one batch size."""
    durations = [duration / 1e6 for round_ in rounds_by_row[name] for duration in round_.nanoseconds[batch]]
    row = {
        "median_ms": statistics.median(durations), "p95_ms": float(np.percentile(durations, 95)),
        "images_per_s": 1e3 * batch / statistics.mean(durations),
    }  # fmt: skip
    if BASELINE in rounds_by_row:
        row["x_keras"] = statistics.median(
            statistics.median(keras_round.nanoseconds[batch])
            / statistics.median(row_round.nanoseconds[batch])
            for keras_round, row_round in zip(rounds_by_row[BASELINE], rounds_by_row[name], strict=True)
        )
    return row


def compare_predictions(rounds_by_row: dict[str, list[Measured]], name: str) -> dict[str, Any]:
    """Compare the predictions of one row with those of the unfolded model."""
    if REFERENCE not in rounds_by_row:
        return {}
    rows, expected = rounds_by_row[name][0].probabilities, rounds_by_row[REFERENCE][0].probabilities
    others = int((rows.argmax(axis=1) != expected.argmax(axis=1)).sum())
    return {"largest_difference": float(np.abs(rows - expected).max()), "other_class": others}


def print_table(table: dict[str, Any], batches: Sequence[int], missing: dict[str, str]) -> None:
    """Print the results as Markdown tables."""
    for batch in batches:
        print(f"\n| batch {batch} | median ms | p95 ms | images/s | times keras | difference |")
        print("|---|---|---|---|---|---|")
        for name, row in table.items():
            of, how = row[f"batch {batch}"], row["predictions"]
            ratio = f"{of['x_keras']:.2f}" if "x_keras" in of else ""
            difference = f"{how['largest_difference']:.1e}, {how['other_class']} other" if how else ""
            print(
                f"| {name} | {of['median_ms']:.1f} | {of['p95_ms']:.1f} | {of['images_per_s']:.0f} "
                f"| {ratio} | {difference} |"
            )
    for name, reason in missing.items():
        print(f"{name}: not run: {reason}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round, few requests")
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--batches", default="1,8,32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--threads", type=int, default=0, help="threads of the TensorFlow session; 0: default"
    )
    arguments = parser.parse_args()
    names = arguments.rows.split(",")
    if unknown := set(names) - set(ROWS):
        parser.error(f"unknown row: {', '.join(sorted(unknown))}. Allowed: {', '.join(ROWS)}")
    batches = [int(size) for size in arguments.batches.split(",")]
    max_requests, rounds = (8, 1) if arguments.quick else (40, arguments.rounds)
    requests = {batch: max(3, max_requests // batch) for batch in batches}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models, weights = write_models(folder)
        images = write_images(folder)
        setting = Setting(models, images, batches, requests, arguments.threads, folder)
        rounds_by_row, missing = measure(setting, names, rounds)
    table: dict[str, Any] = {
        name: {f"batch {batch}": summarize_row(rounds_by_row, name, batch) for batch in batches}
        | {"predictions": compare_predictions(rounds_by_row, name)}
        for name in rounds_by_row
    }
    print(f"\nMobileNetV2 at {SIZE_PX} px, {weights} weights, {rounds} rounds")
    print_table(table, batches, missing)
    machine = {"cores": os.cpu_count(), "python": platform.python_version()}
    print(json.dumps({"rows": table, "missing": missing, "weights": weights, **machine}))


if __name__ == "__main__":
    main()

"""How fast are exports served: from the bytes of files to answers, kerastl beside Keras's own export, OpenVINO and ONNX Runtime.

    python benchmarks/serving.py [--quick] [--rows a,b] [--batches 1,8,32] [--rounds 5] [--threads 0]

One MobileNetV2 at 224 px, with the ImageNet weights that lie in Keras's cache, else random ones, and JPEG files of 500 x 375
pixels. One request after the other; the rows are measured in turn, round by round. Told are the median and 95th percentile of a
request's milliseconds over all rounds, images a second, and how many times as fast as `keras` a row is: the median over rounds of the
ratio of medians within one.

- `kerastl` is what `kerastl export` writes, in a TensorFlow session: files in, predictions out.
  `kerastl-unfolded` keeps its BatchNorms, `kerastl-bfloat16` computes in bfloat16 (slow on a CPU without instructions for it).
- `keras` is what `model.export()` writes of the same network, in the same kind of session, with the images decoded and
  resized in Python by Pillow, as `keras.utils.load_img` does it; `keras-tf` with `tf.io.decode_image` and `tf.image.resize`.
  What it costs to send 600 kB of floats an image to a server instead of the file is not counted.
- `openvino` and `onnxruntime` run that same export, converted, in an environment and a process of their own, with Pillow.

`answers` tells the largest difference of a probability from `kerastl-unfolded`, and of how many images the class is another. Pillow and
TensorFlow shrink an image a little differently. The last line is one JSON object.
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
    """Ask all rows in turn, round by round; return what was measured, and why others could not be."""
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
    """Return the figures of one row at one batch."""
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
    """Return how far the answers of one row are from those of the network as it was trained."""
    if REFERENCE not in rounds_by_row:
        return {}
    rows, expected = rounds_by_row[name][0].probabilities, rounds_by_row[REFERENCE][0].probabilities
    others = int((rows.argmax(axis=1) != expected.argmax(axis=1)).sum())
    return {"largest_difference": float(np.abs(rows - expected).max()), "other_class": others}


def print_table(table: dict[str, Any], batches: Sequence[int], missing: dict[str, str]) -> None:
    """Print the figures in Markdown."""
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
        print(f"{name} not run: {reason}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round, few requests")
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--batches", default="1,8,32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="of TensorFlow's session")
    arguments = parser.parse_args()
    names = arguments.rows.split(",")
    if unknown := set(names) - set(ROWS):
        parser.error(f"there is no row {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    batches = [int(size) for size in arguments.batches.split(",")]
    most, rounds = (8, 1) if arguments.quick else (40, arguments.rounds)
    requests = {batch: max(3, most // batch) for batch in batches}
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

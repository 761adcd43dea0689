"""Memory of training, measured in one process per case, compared with the estimate.

    python benchmarks/memory.py            the cases below
    python benchmarks/memory.py --one mobilenet_v2:224:top:32

A case is backbone:image size:trainable layers:batch size. `top` trains the last 30 % after a frozen front, `all` has BatchNorm in training
mode. Training uses random weights, generated JPEG files of 500 x 375 pixels, two epochs, validation and checkpoints. The measured
memory is the peak resident set size (`VmHWM`, because `ru_maxrss` starts at the value of the parent process) minus the size before
`fit`. The last column is the ratio of estimate and measurement.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

CASES = [
    *(f"mobilenet_v2:224:{what}:{batch}" for what in ("head", "top") for batch in (8, 32, 64)),
    "mobilenet_v2:224:all:32", "resnet50:96:head:32", "resnet50:96:top:32", "resnet50:96:all:32",
    "efficientnet_b0:224:top:32", "small_cnn:128:all:64",
]  # fmt: skip
CLASSES = ("a", "b")


def write_images(folder: Path, count: int) -> list:
    """Write generated JPEG files. Return their records."""
    import numpy as np
    from PIL import Image

    from kerastl.data import Record

    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((500, 375))
    records = []
    for number in range(count):
        file = folder / f"{number}.jpg"
        image.rotate(number).save(file)
        records.append(Record(file.name, file, CLASSES[number % 2]))
    return records


def resident_bytes() -> int:
    """Return the resident set size of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def peak_resident_bytes() -> int:
    """Return the peak resident set size of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def measure(case: str, folder: Path) -> dict:
    """Train one case in this process."""
    import tensorflow as tf

    from kerastl.augment import build_policy
    from kerastl.data import ImageDataset
    from kerastl.models import build_backbone, build_model
    from kerastl.recipe import Phase, TopFraction
    from kerastl.training import estimate_memory, fit

    name, side, what, batch = case.split(":")
    size, rows = int(side), int(batch)
    tf.config.experimental.enable_op_determinism()
    records = write_images(folder, max(2 * rows, 64))
    options = {"class_names": CLASSES, "image_size_px": size, "batch_size": rows}
    flip = build_policy([{"name": "random_flip"}], image_size_px=size)
    train = ImageDataset(records, augment=flip, **options)
    val = ImageDataset(records[:rows], shuffle=False, **options)
    backbone = build_backbone(name, weights="none", image_size_px=size, seed=0)
    model = build_model(backbone, class_names=CLASSES)
    choice = {
        "head": "none", "top": TopFraction(top_fraction=0.3), "all": "all"
    }[what]  # fmt: skip
    norms = "trainable" if what == "all" else "frozen"
    phase = Phase("p", epochs=2, trainable=choice, batch_norm=norms, cache="none")
    estimated = estimate_memory(model, phase, train, val).host(rows)
    before = resident_bytes()
    fit(model, train, val=val, phases=[phase], checkpoints=folder / "checkpoints")
    peak = peak_resident_bytes()
    return {
        "case": case,
        "held_before_mb": round(before / 1e6),
        "measured_mb": round((peak - before) / 1e6),
        "estimated_mb": round(estimated / 1e6),
        "ratio": round(estimated / (peak - before), 2),
    }


def main() -> None:
    """Measure one case in this process, or each case in its own process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", metavar="CASE")
    parser.add_argument("--cases", nargs="*", default=CASES)
    arguments = parser.parse_args()
    if arguments.one:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(arguments.one, Path(folder))))
        return
    print(f"{'case':30} {'measured MB':>11} {'estimated':>9} {'ratio':>6}")
    for case in arguments.cases:
        done = subprocess.run(
            [sys.executable, __file__, "--one", case], stdout=subprocess.PIPE, text=True, check=True
        )
        row = json.loads(done.stdout.splitlines()[-1])
        print(f"{case:30} {row['measured_mb']:11} {row['estimated_mb']:9} {row['ratio']:6.2f}", flush=True)


if __name__ == "__main__":
    main()

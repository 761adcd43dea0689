"""Images for the benchmark of training: phantom slices as 8-bit PNG, a sub-folder a class."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

DISTINCT = 2000
"""Images that are drawn; where more are asked for, the others are further names of these."""


def write_images(folder: Path, count: int) -> None:
    """Write phantom slices in `train/CLASS` and `val/CLASS`, every fifth patient in `val`.

    Args:
        folder: new or empty.
        count: of images. Reading and decoding takes each as long as if all were distinct; `DISTINCT` of them are.
    """
    drawn = folder / "phantom"
    patients = -(-min(count, DISTINCT) // 4)
    subprocess.run(
        [sys.executable, "-m", "kerastl", "data", "phantom", drawn, "--hospital", "a",
         "--patients", str(patients), "--seed", "1"],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    (table,) = drawn.glob("*.csv")
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[: min(count, DISTINCT)]
    held_out = set(sorted({row["patient_id"] for row in rows})[::5])
    written = []
    for number, row in enumerate(rows):
        split = "val" if row["patient_id"] in held_out else "train"
        out = folder / split / row["label"] / f"{number:06d}.png"
        out.parent.mkdir(parents=True, exist_ok=True)
        values = np.asarray(Image.open(drawn / row["path"]), np.float32)
        # A window from -1000 to 400 HU, as lungs are looked at.
        grey = np.clip((values - 24.0) / 1400.0, 0, 1) * 255
        Image.fromarray(grey.astype(np.uint8)).convert("RGB").save(out)
        written.append(out)
    for number in range(len(written), count):
        first = written[number % len(written)]
        os.link(first, first.with_name(f"{number:06d}.png"))

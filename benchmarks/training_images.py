"""Images of the training benchmark: phantom slices as 8-bit PNG files with one subfolder per class."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

DISTINCT = 2000
"""Maximum number of distinct images. Further images are hard links to these."""


def write_images(folder: Path, count: int) -> None:
    """Write phantom slices to `train/CLASS` and `val/CLASS`. Every fifth patient is in `val`.

    Args:
        folder: A new or empty folder.
        count: Number of images. At most `DISTINCT` of them differ, which does not change the time to read and decode them.
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
        # A lung window from -1000 to 400 HU.
        gray = np.clip((values - 24.0) / 1400.0, 0, 1) * 255
        Image.fromarray(gray.astype(np.uint8)).convert("RGB").save(out)
        written.append(out)
    for number in range(len(written), count):
        first = written[number % len(written)]
        os.link(first, first.with_name(f"{number:06d}.png"))

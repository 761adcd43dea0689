"""Drawn pictures of one hospital or two, and a run that is killed."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image


def draw(folder: Path, count: int, seed: int, *, light: bool) -> None:
    """Write noisy PNGs; the light ones are brighter in their upper half."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    for number in range(count):
        pixels = generator.uniform(0, 150, (40, 36, 3))
        pixels[:20] += 90 * light
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")


def draw_hospitals(folder: Path, count: int) -> None:
    """Write pictures of two hospitals, `a` and `b`, `count` of each class."""
    for name, seed in (("a", 1), ("b", 7)):
        draw(folder / name / "dark", count, seed, light=False)
        draw(folder / name / "light", count, seed + 1, light=True)


def kill_run_when(file: Path, recipe: Path, out: Path) -> None:
    """Run a recipe in a process of its own, and kill that when a file is there."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kerastl", "run", str(recipe), "--out", str(out)],
        stderr=subprocess.DEVNULL,
    )
    while not file.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "report.html").exists(), "it ended before it could be killed"

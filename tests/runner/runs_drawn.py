"""Drawn images of one hospital or two, and a run that is killed."""

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
    """Write images of two hospitals, `a` and `b`, `count` of each class."""
    for name, seed in (("a", 1), ("b", 7)):
        draw(folder / name / "dark", count, seed, light=False)
        draw(folder / name / "light", count, seed + 1, light=True)


RECIPE = """
format: 1
seed: 5
data:
  reader: {{name: folder, path: {path}}}
  split: {{val_fraction: 0.2, test_fraction: 0.2}}
  image_size_px: 32
  batch_size: 8
# Exact: nothing to compile, so that a run takes seconds; test_augmented_run.py has compiled ones.
augment:
  exact: true
  operations: [{{name: random_flip}}, {{name: random_brightness, max_fraction: 0.1}}]
backbone: {{name: small_cnn, weights: none}}
phases:
  - {{name: all, epochs: 2, learning_rate: 1e-3, trainable: all}}
  - {{name: head, epochs: 1, learning_rate: 1e-3, trainable: none}}
export: {{formats: []}}
evaluation: {{resamples: 100}}
"""
TWO_HOSPITALS = """
format: 1
seed: 5
data:
  reader: {{name: folder, path: {source}, group_pattern: '([a-z]+/\\d+)'}}
  split: {{val_fraction: 0.3, test_fraction: 0.2}}
  image_size_px: 32
  batch_size: 8
backbone: {{name: small_cnn, weights: none}}
phases:
  - {{name: source, epochs: {source_epochs}, learning_rate: 1e-3, trainable: all}}
  - {{name: adapt, domain: target, epochs: {epochs}, {adapt}, keep: last}}
target:
  reader: {{name: folder, path: {target}, group_pattern: '([a-z]+/\\d+)'}}
  labels: none
  split: {{val_fraction: 0.0, test_fraction: 0.4}}
adaptation: {{methods: {methods}}}
export: {{formats: []}}
evaluation: {{resamples: 100}}
"""


def two_hospitals_recipe(folder: Path, **values: object) -> str:
    """Return a recipe for the hospitals that `draw_hospitals` draws, without a label of `b`.

    Args:
        folder: of the images.
        values: `source_epochs`, `epochs`, `adapt` (how the phase at the target learns) and `methods`.
    """
    return TWO_HOSPITALS.format(source=folder / "a", target=folder / "b", **values)


def kill_run_when(file: Path, recipe: Path, out: Path) -> None:
    """Run a recipe in a process of its own, and kill that when a file is there."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kerastl", "run", str(recipe), "--out", str(out)], stderr=subprocess.DEVNULL
    )
    while not file.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "report.html").exists(), "it ended before it could be killed"

"""CPU time of `kerastl predict` on a folder, with a run and with its export, and of a plain tf.data loop.

    python benchmarks/predicting.py [--quick] [--images FOLDER] [--count 3000] [--rounds 3] [--models small_cnn:64,...]

- `plain` is a script of 20 lines, `_predicting_peers/plain_loop.py`: it reads and batches the files, calls the same SavedModel
  and writes a CSV file. It checks nothing, and stops at the first unreadable image.
- `export` is `kerastl predict EXPORT FOLDER --out FILE.csv`, `run` the same with the run.

Each command runs alone, in turn in each round. The table shows medians over the rounds: CPU seconds (user and system) of the
whole command with its start-up, images per second from start to end, and the median over rounds of the ratio of CPU seconds to
`plain` in the same round. CPU seconds vary less than the duration on a shared machine.

The images are links to those of FOLDER or, by default, to 32 JPEG files of 500 x 375 pixels. Random weights are as fast as
trained ones. `plain` and `export` must predict the same classes, and all tables of one row must be identical. The last line
is one JSON object: the ratios of CPU seconds.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

from _serving_peers.models import write_images

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

MODELS = "small_cnn:64,mobilenet_v2:224"
CLASSES = ("a", "b", "c")
PLAIN_LOOP = Path(__file__).parent / "_predicting_peers" / "plain_loop.py"


class Measured(NamedTuple):
    """The CPU time and the duration of one command, in seconds."""

    cpu: float
    wall: float


def write_model(name: str, size: int, folder: Path) -> None:
    """Write the files of a run folder that `predict` and `export` read."""
    from kerastl.models import build_backbone, build_model

    folder.mkdir()
    backbone = build_backbone(name, weights="none", image_size_px=size, seed=0)
    build_model(backbone, class_names=CLASSES).save(folder / "model.keras")
    description = {"class_names": CLASSES, "image_size_px": size, "window": None, "max_pixels": 50_000_000}
    (folder / "model.json").write_text(json.dumps(description))
    (folder / "recipe.resolved.yaml").write_text("format: 1\n")


def link_images(source: list[Path], folder: Path, count: int) -> Path:
    """Return a folder with links to images, repeated up to `count`."""
    folder.mkdir()
    for number in range(count):
        image = source[number % len(source)]
        (folder / f"{number:06d}{image.suffix}").symlink_to(image)
    return folder


def measure(words: Sequence[str | Path], cache: Path, *, check: bool = True, **variables: str) -> Measured:
    """Run a Python command, with environment variables and with cached byte code, as after an installation."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPYCACHEPREFIX": str(cache), **variables}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, *map(str, words)]
    subprocess.run(command, check=check, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    after, end = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    return Measured(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, end - start)


def measure_rows(run: Path, images: Path, rounds: int) -> dict[str, list[Measured]]:
    """Measure all rows in turn in each round, and compare their tables. The first round, with one image, fills caches."""
    rows: dict[str, list[Measured]] = {"plain": [], "export": [], "run": []}
    tables: dict[str, set[bytes]] = {name: set() for name in rows}
    few = link_images(sorted(images.iterdir())[:1], run / "few", 1)
    for folder, (name, results) in product([few, *[images] * rounds], rows.items()):
        out = run / f"{name}.csv"
        model = {"plain": run / "served" / "1", "export": run / "served", "run": run}[name]
        words = ["-m", "kerastl", "predict", model, folder, "--out", out]
        result = measure([PLAIN_LOOP, model, folder, out] if name == "plain" else words, run.parent / "cache")
        if folder is images:
            results.append(result)
            tables[name].add(out.read_bytes())
        out.unlink()
    assert all(len(contents) == 1 for contents in tables.values()), "the tables of one row differ"
    plain, export = (
        [row[:2] for row in csv.reader(tables[name].pop().decode().splitlines())] for name in list(rows)[:2]
    )
    assert plain == export[1:], "the predicted classes differ"
    return rows


def main() -> None:
    """Measure each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="600 images, one round, the first model")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", default=MODELS)
    options = parser.parse_args()
    models = options.models.split(",")
    if options.quick:
        options.count, options.rounds, models = 600, 1, models[:1]
    ratios = {}
    print(f"{'model':18} {'as':7} {'CPU s':>7} {'images/s':>9} {'x plain':>8}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "drawn").mkdir()
        from kerastl.export import find_images

        source = (
            list(find_images([options.images.absolute()]))
            if options.images
            else write_images(folder / "drawn")
        )
        images = link_images(source, folder / "images", options.count)
        for spec in models:
            backbone, size = spec.split(":")
            run = folder / spec.replace(":", "_")
            write_model(backbone, int(size), run)
            measure(["-m", "kerastl", "export", run, "--out", run / "served"], folder / "cache")
            rows = measure_rows(run, images, options.rounds)
            for row, results in rows.items():
                cpu, wall = (statistics.median(values) for values in zip(*results, strict=True))
                pairs = zip(results, rows["plain"], strict=True)
                ratio = statistics.median(result.cpu / plain.cpu for result, plain in pairs)
                print(f"{spec:18} {row:7} {cpu:7.1f} {options.count / wall:9.1f} {ratio:8.2f}", flush=True)
                if row != "plain":
                    ratios[f"{spec} {row}"] = round(ratio, 3)
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()

"""Images per second of `kerastl predict` with a run and with its export.

    python benchmarks/predicting.py [--quick] [--images FOLDER] [--count 640] [--models small_cnn:64,...]

Each command runs alone and writes a CSV file. It is timed from the first batch to the last, without the start-up. The table shows
medians over the rounds and the CPU seconds of the whole command, which vary less than the time on a shared machine.
The images of FOLDER are repeated to `count` images. Without a folder, JPEG images of 2,000 x 1,500 pixels are generated; decoding
them takes longer than a small model. Random weights are as fast as trained ones. All CSV files of one model must be
identical. The last line is one JSON object: images per second.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

MODELS = "small_cnn:64,mobilenet_v2:224"
CLASSES = ("a", "b", "c")


def draw(folder: Path) -> None:
    """Write eight large JPEG images."""
    import numpy as np
    from PIL import Image

    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((2000, 1500))
    for number in range(8):
        image.rotate(number).save(folder / f"{number}.jpg")


def write_model(name: str, size: int, folder: Path) -> None:
    """Write the files of a run folder that `predict` and `export` read."""
    from kerastl.models import build_backbone, build_model

    folder.mkdir()
    backbone = build_backbone(name, weights="none", image_size_px=size, seed=0)
    build_model(backbone, class_names=CLASSES).save(folder / "model.keras")
    description = {"class_names": CLASSES, "image_size_px": size, "window": None, "max_pixels": 50_000_000}
    (folder / "model.json").write_text(json.dumps(description))
    (folder / "recipe.resolved.yaml").write_text("format: 1\n")


def cpu_seconds() -> float:
    """Return the CPU seconds of all ended child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def time_predict(model: Path, names: Path, out: Path) -> tuple[float, float]:
    """Return images per second from the first batch to the last, and the CPU seconds of the command."""
    before = cpu_seconds()
    rows = out.with_name(f"{out.name}.part") / "rows"
    seen: list[tuple[float, int]] = []
    words = ["predict", model, "--list", names, "--out", out]
    with subprocess.Popen([sys.executable, "-m", "kerastl", *map(str, words)]) as process:
        while process.poll() is None:
            with suppress(OSError):
                count = rows.read_bytes().count(b"\n") - 1
                if count > 0 and (not seen or count > seen[-1][1]):
                    seen.append((time.perf_counter(), count))
            time.sleep(0.01)
    assert process.returncode == 0
    (start, first), (end, last) = seen[0], seen[-1]
    return (last - first) / (end - start), cpu_seconds() - before


def measure(model: Path, names: list[str], rounds: int, folder: Path) -> tuple[float, float]:
    """Return the medians of images per second and of CPU seconds."""
    listed = folder / "names.txt"
    listed.write_text("\n".join(names))
    results, tables = [], set()
    for number in range(rounds):
        out = folder / f"{number}.csv"
        results.append(time_predict(model, listed, out))
        tables.add(hashlib.sha256(out.read_bytes()).hexdigest())
        out.unlink()
    assert len(tables) == 1, "the tables differ"
    rates, cpu = zip(*results, strict=True)
    return statistics.median(rates), statistics.median(cpu)


def main() -> None:
    """Measure each model as a run and as an export."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="256 images, one round")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--count", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", default=MODELS)
    options = parser.parse_args()
    count, rounds = (256, 1) if options.quick else (options.count, options.rounds)
    rates = {}
    print(f"{'model':18} {'as':7} {'images/s':>9} {'CPU s':>7}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.images is None:
            draw(folder / "drawn")
        from kerastl.export import find_images

        files = find_images([options.images or folder / "drawn"])
        names = list(islice(cycle([str(path.absolute()) for path in files]), count))
        for spec in options.models.split(","):
            backbone, size = spec.split(":")
            run = folder / spec.replace(":", "_")
            write_model(backbone, int(size), run)
            command = [sys.executable, "-m", "kerastl", "export", run, "--out", run / "served"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            for form, model in (("run", run), ("export", run / "served")):
                rate, cpu = measure(model, names, rounds, folder)
                print(f"{spec:18} {form:7} {rate:9.1f} {cpu:7.1f}", flush=True)
                rates[f"{spec} {form}"] = round(rate, 1)
    print(json.dumps(rates))


if __name__ == "__main__":
    main()

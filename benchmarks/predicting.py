"""How many pictures `kerastl predict` answers in a second, by one process and by several.

    python benchmarks/predicting.py [--quick] [--pictures FOLDER] [--count 640] [--processes 1,2,4] [--models small_cnn:64,...]

Each command runs by itself and writes a CSV; its time is taken from the first batch to the last, without the start. Told is the
median of the rounds, in which the numbers of processes are alternated, the ratio to the first number, and the CPU seconds of all
processes, with what each takes to start: on a machine that others use too they move less than the time does. The
pictures of FOLDER are named over and over until there are `count` of them; without a folder they are drawn: JPEGs of 2,000 x 1,500
pixels, whose decoding weighs more than a small model. Random weights: they cost the same. Every table must be equal to the byte.
The last line is one JSON object: pictures a second.
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
    """Write eight large JPEGs."""
    import numpy as np
    from PIL import Image

    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels).resize((2000, 1500))
    for number in range(8):
        picture.rotate(number).save(folder / f"{number}.jpg")


def write_model(name: str, size: int, folder: Path) -> None:
    """Write a run folder as far as `predict` and `export` look."""
    from kerastl.backbones import build_backbone
    from kerastl.training import build_model

    folder.mkdir()
    backbone = build_backbone(name, weights="none", image_size_px=size, seed=0)
    build_model(backbone, class_names=CLASSES).save(folder / "model.keras")
    told = {"class_names": CLASSES, "image_size_px": size, "window": None, "max_pixels": 50_000_000}
    (folder / "model.json").write_text(json.dumps(told))
    (folder / "recipe.resolved.yaml").write_text("format: 1\n")


def cpu_seconds() -> float:
    """Return what processes that ended have cost, and those that they started."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def ask(model: Path, names: Path, processes: int, out: Path) -> tuple[float, float]:
    """Return pictures a second from the first batch to the last, without the start, and CPU seconds in all, with it."""
    before = cpu_seconds()
    progress = out.with_name(f"{out.name}.part") / "progress"
    words = ["predict", model, "--list", names, "--out", out, "--processes", processes]
    seen = []
    with subprocess.Popen([sys.executable, "-m", "kerastl", *map(str, words)]) as process:
        while process.poll() is None:
            with suppress(OSError, IndexError):
                whole = progress.read_text().rpartition("\n")[0].splitlines()[-1]
                files = int(whole.split()[0])
                if files and (not seen or files > seen[-1][1]):
                    seen.append((time.perf_counter(), files))
            time.sleep(0.01)
    assert process.returncode == 0
    (begun, first), (ended, last) = seen[0], seen[-1]
    return (last - first) / (ended - begun), cpu_seconds() - before


def measure(
    model: Path, names: list[str], processes: list[int], rounds: int, place: Path
) -> dict[int, tuple[float, float]]:
    """Return pictures a second and CPU seconds by number of processes."""
    listed = place / "names.txt"
    listed.write_text("\n".join(names))
    found: dict[int, list[tuple[float, float]]] = {wanted: [] for wanted in processes}
    tables = set()
    for number in range(rounds):
        for wanted in processes:
            out = place / f"{number}-{wanted}.csv"
            found[wanted].append(ask(model, listed, wanted, out))
            tables.add(hashlib.sha256(out.read_bytes()).hexdigest())
            out.unlink()
    assert len(tables) == 1, "tables differ"
    return {
        wanted: (
            statistics.median(one[0] for one in told),
            statistics.median(one[1] for one in told),
        )
        for wanted, told in found.items()
    }


def tell(spec: str, form: str, found: dict[int, tuple[float, float]]) -> None:
    first = next(iter(found.values()))[0]
    for processes, (rate, cpu) in found.items():
        print(
            f"{spec:18} {form:7} {processes:9} {rate:12.1f} {rate / first:6.2f} {cpu:12.1f}",
            flush=True,
        )


def main() -> None:
    """Measure each model as a run and as an export."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="256 pictures, one round")
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--count", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", default="1,2,4")
    parser.add_argument("--models", default=MODELS)
    given = parser.parse_args()
    count, rounds = (256, 1) if given.quick else (given.count, given.rounds)
    wanted = [int(one) for one in given.processes.split(",")]
    rates = {}
    print(
        f"{'model':18} {'as':7} {'processes':>9} {'pictures/s':>12} {'ratio':>6} {'CPU s in all':>12}"
    )
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        if given.pictures is None:
            draw(place / "drawn")
        from kerastl.export import find_pictures

        files = [
            str(path.absolute()) for path in find_pictures([given.pictures or place / "drawn"])
        ]
        names = list(islice(cycle(files), count))
        for spec in given.models.split(","):
            backbone, size = spec.split(":")
            run = place / spec.replace(":", "_")
            write_model(backbone, int(size), run)
            command = [sys.executable, "-m", "kerastl", "export", run, "--out", run / "served"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            for form, model in (("run", run), ("export", run / "served")):
                found = measure(model, names, wanted, rounds, place)
                tell(spec, form, found)
                rates[f"{spec} {form}"] = {one: round(rate, 1) for one, (rate, _) in found.items()}
    print(json.dumps(rates))


if __name__ == "__main__":
    main()

"""CPU time of light commands, and time from the start of a training to its first step.

    python benchmarks/startup.py [--quick] [--run | --train | --verify]

Each command runs in its own process. The table shows the median of several runs, and the time to start Python.
Limits: 0.4 CPU seconds for `--help`, 0.6 for `check`.

`--run` measures the CPU time of a whole run of 3 tiny epochs, from the first import to the report. Training and decoding
take about a quarter of it. Limit: 20 seconds.

`--verify` measures the CPU time and the duration of `kerastl verify EXPORT IMAGES --quick` for a `small_cnn` at 64 px with random
weights and 8 images. Limit: 10 seconds on an idle machine with two cores.

`--train` measures the seconds from the start of the process to the end of the first step, for `kerastl run` and for a
script from the Keras guide, on the same 400 images at 96 px: frozen MobileNetV2 with ImageNet weights, without a cache.
Before the first step, `kerastl run` decodes and checks every file, splits the images and writes its recipe. It
remembers checked files, so the first run is reported separately. The last line is one JSON object of seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from _serving_peers.models import write_images as write_photos
from predicting import measure, write_model
from training import SCRIPT_PATHS, WORKERS, make_task
from training_images import write_images

OUT = "OUT"
TINY_RUN = (
    "run", "quickstart", "--out", OUT, "--set", "target=null", "--set", "data.image_size_px=32",
    "--set", "data.reader={name: phantom, patients: 12, slices_per_patient: 2, image_size_px: 32}",
    "--set", "phases=[{name: all, epochs: 3, learning_rate: 1e-3, trainable: all}]",
)  # fmt: skip
COMMANDS = (["--help"], ["ls"], ["check", "quickstart"], ["weights", "ls"], ["cache", "ls"])


def time_command(words: list[str], runs: int) -> float:
    """Return the median CPU time of a Python command (user and system) in seconds."""
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(runs + 1):
            out = str(Path(folder, f"run{number}"))
            command = [out if word == OUT else word for word in words]
            seconds.append(measure(command, Path(folder), KERASTL_CACHE=f"{out}-cache").cpu)
    return round(statistics.median(seconds[1:]), 3)  # the first run compiles


def time_verify(runs: int) -> dict[str, float]:
    """Return the median CPU time and duration of `verify --quick` in seconds."""
    with tempfile.TemporaryDirectory() as name:
        run, images = Path(name, "run"), Path(name, "images")
        write_model("small_cnn", 64, run)
        images.mkdir()
        files = write_photos(images)[:8]
        cache = Path(name, "cache")
        measure(["-m", "kerastl", "export", run, "--out", run / "served"], cache)
        # Random weights predict nearly the same for all images, which is reported as a fault: exit code 1.
        command = ["-m", "kerastl", "verify", run / "served", *files, "--quick"]
        results = [measure(command, cache, check=False) for _ in range(runs + 1)][1:]
    cpu, wall = (round(statistics.median(values), 2) for values in zip(*results, strict=True))
    return {"verify --quick, CPU": cpu, "verify --quick, duration": wall}


def time_first_steps(runs: int) -> dict[str, float]:
    """Return the median seconds to the first step.

    Raises:
        SystemExit: The weights are not on this machine.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder, 400)
        options = argparse.Namespace(backbone="mobilenet_v2", weights="imagenet")
        task = make_task(options, folder, "head", 96, 400, 1)
        keras = ["keras", json.dumps({**task, "scratch": name})]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([*SCRIPT_PATHS, *sys.path[1:]])}
        totals: dict[str, float] = {}
        seconds_by_program: dict[str, list[float]] = {"keras": [], "kerastl": []}
        for number in range(runs + 1):
            kerastl = [
                "kerastl", "run", "feature-extraction", "--out", str(folder / f"run{number}"),
                "--set", f"data.reader.path={folder / 'train'}", "--set", "data.image_size_px=96",
                "--set", "phases[0].cache=none",
            ]  # fmt: skip
            for which, words in {"keras": keras, "kerastl": kerastl}.items():
                done = subprocess.run(
                    [sys.executable, WORKERS / "first_step.py", *words], check=True, capture_output=True,
                    text=True, env=environment | {"KERASTL_CACHE": str(folder / "cache")},
                )  # fmt: skip
                seconds = json.loads(done.stdout.strip().splitlines()[-1])["first_step_s"]
                seconds_by_program[which].append(seconds)
    totals["first step, keras"] = statistics.median(seconds_by_program["keras"])
    totals["first step, kerastl run, new images"] = seconds_by_program["kerastl"][0]
    totals["first step, kerastl run"] = statistics.median(seconds_by_program["kerastl"][1:])
    return {name: round(seconds, 2) for name, seconds in totals.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three runs instead of seven")
    parser.add_argument("--run", action="store_true", help="measure a run of 3 tiny epochs")
    parser.add_argument("--train", action="store_true", help="measure the time to the first training step")
    parser.add_argument("--verify", action="store_true", help="measure kerastl verify --quick")
    arguments = parser.parse_args()
    runs = 3 if arguments.quick else 7
    if arguments.train:
        results = time_first_steps(1 if arguments.quick else 5)
        print_results(results)
        return
    if arguments.verify:
        print_results(time_verify(1 if arguments.quick else 3))
        return
    if arguments.run:
        words = ["-m", "kerastl", *TINY_RUN]
        print_results({"run of 3 tiny epochs": time_command(words, 1 if arguments.quick else 3)})
        return
    results = {"python": time_command(["-c", ""], runs)}
    for words in COMMANDS:
        results[" ".join(words)] = time_command(["-m", "kerastl", *words], runs)
    print_results(results)


def print_results(results: dict[str, float]) -> None:
    for name, seconds in results.items():
        print(f"{name:<40} {seconds:.3f} s")
    print(json.dumps(results))


if __name__ == "__main__":
    main()

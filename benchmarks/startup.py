"""CPU time of the commands that run nothing, and the time from the start of a training to its first step.

    python benchmarks/startup.py [--quick] [--train]

Each command runs in its own process; the table shows the median of several runs, next to the time that Python itself takes to
start. Limits: 0.4 CPU seconds for `--help`, 0.6 for `check`.

`--train` tells the seconds from the start of the process to the end of the first step, of `kerastl run` and of a script of Keras's
guide, on the same 400 images at 96 px: MobileNetV2 with ImageNet weights, frozen, without a cache. `kerastl run` has by then decoded
every file once, divided the images and written its recipe; after the first time it knows the files, so that the first
is told apart. The last line is one JSON object of seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from training import PLACES, WORKERS, task_of
from training_images import write_images

COMMANDS = (["--help"], ["ls"], ["check", "quickstart"], ["weights", "ls"], ["cache", "ls"])


def seconds_of(words: list[str], runs: int) -> float:
    """Return the median CPU time of a command, user and system, in seconds."""
    taken = []
    for _ in range(runs):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(words, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return round(statistics.median(taken), 3)


def first_steps(runs: int) -> dict[str, float]:
    """Return the seconds to the first step, the median of some runs.

    Raises:
        SystemExit: the weights are not on this machine.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder, 400)
        asked = argparse.Namespace(backbone="mobilenet_v2", weights="imagenet")
        task = task_of(asked, folder, "head", 96, 400, 1)
        keras = ["keras", json.dumps({**task, "scratch": name})]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([*PLACES, *sys.path[1:]])}
        told: dict[str, float] = {}
        taken: dict[str, list[float]] = {"keras": [], "kerastl": []}
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
                taken[which].append(seconds)
    told["first step, keras"] = statistics.median(taken["keras"])
    told["first step, kerastl run, new images"] = taken["kerastl"][0]
    told["first step, kerastl run"] = statistics.median(taken["kerastl"][1:])
    return {name: round(seconds, 2) for name, seconds in told.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three runs instead of seven")
    parser.add_argument("--train", action="store_true", help="to the first step of a training")
    arguments = parser.parse_args()
    runs = 3 if arguments.quick else 7
    if arguments.train:
        told = first_steps(1 if arguments.quick else 5)
        tell(told)
        return
    told = {"python": seconds_of([sys.executable, "-c", ""], runs)}
    for words in COMMANDS:
        told[" ".join(words)] = seconds_of([sys.executable, "-m", "kerastl", *words], runs)
    tell(told)


def tell(told: dict[str, float]) -> None:
    for name, seconds in told.items():
        print(f"{name:<40} {seconds:.3f} s")
    print(json.dumps(told))


if __name__ == "__main__":
    main()

"""Stop runs repeatedly, by kills and full disks, and check that the result equals that of an uninterrupted run.

    python benchmarks/resume_soak.py [--stops 50] [--seed 0] [--recipes caches,target] [--out DIR]

Recipes of tiny images that together use every kind of state (`_resume_soak/recipes.py`) run once without interruption.
Then runs of them, each with its own cache, are started, stopped and resumed until they finish. Every array of each model,
history.jsonl, predictions.csv, scores.json and freeze.json must be equal. The runs are stopped in turn by:

- `start`: SIGKILL at a random time before the first epoch ends;
- `any moment`: SIGKILL after a random time;
- `checkpoint`, `history`, `cache entry`: SIGKILL while this file is partially written;
- `disk full`: at a random time only a few kB are left. The run must exit with code 3, or with 1 if its cache does not
  fit. Then the space is freed;
- `disk full, cache`: the same, while a cache entry is written.

All files are on a small in-memory disk in a mount namespace (`unshare -rm`). Without permission to mount it, the disk full
cases are skipped. Each process is forked from one that has imported TensorFlow, so that a start takes seconds.

The exit code is 0 if all runs were equal. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from _resume_soak import stops
from _resume_soak.recipes import RECIPES, command, digests

WAYS = ("start", "any moment", *stops.PARTIAL_FILES, "disk full", "disk full, cache")
DISK = "400m"
START, WHOLE = 0.4, 1.1
"""Fractions of the duration of a run: about until its first epoch ends, and a little more than all of it."""
RESOLVED_RECIPE, VERSIONS, FINISHED = "recipe.resolved.yaml", "versions.json", "finished.json"


class Soak:
    """Runs that are stopped and resumed on one disk.

    Args:
        disk: The folder of all files.
        seconds: Duration of an uninterrupted run by recipe.
        expected: Its digests by recipe.
        generator: Random generator for times and recipes.
        ways: Ways to stop, used in turn.
    """

    def __init__(
        self,
        disk: Path,
        seconds: dict[str, float],
        expected: dict[str, dict[str, str]],
        generator: np.random.Generator,
        ways: tuple[str, ...],
    ) -> None:
        self.disk, self.seconds, self.expected = disk, seconds, expected
        self.generator, self.ways = generator, ways
        self.stops: Counter[str] = Counter()
        self.partial_files: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        self.turn = 0

    def start(self, recipe: str, out: Path, cache: Path) -> stops.Process:
        """Start a run with `--resume`, which also starts a run that was stopped before its first file."""
        return stops.Process(command(recipe, out), cache, self.disk.parent / "log")

    def stop_once(self, recipe: str, out: Path, cache: Path) -> None:
        """Resume a run and stop it in the next way. The run may finish first.

        Raises:
            SystemExit: The run failed with an unexpected error.
        """
        way = self.ways[self.turn % len(self.ways)]
        self.turn += 1
        process = self.start(recipe, out, cache)
        if way.startswith("disk full"):
            self._fill(way, process, recipe, out, cache)
            return
        if way in ("start", "any moment"):
            self._sleep(process, recipe, START if way == "start" else WHOLE)
        else:
            skip = int(self.generator.integers(0, 2 if way == "cache entry" else 5))
            self._wait_for(way, process, recipe, out, cache, skip)
        if process.ended():
            self.missed[way] += 1
            check_exit_code(process)
            return
        process.kill()
        self.stops[way] += 1
        self.partial_files.update(
            what for what in stops.PARTIAL_FILES if stops.is_being_written(what, out, cache)
        )
        if not (out / VERSIONS).is_file():
            stage = "training" if (out / RESOLVED_RECIPE).is_file() else "first file"
            self.stops[f"of these before the {stage}"] += 1

    def _wait_for(
        self, what: str, process: stops.Process, recipe: str, out: Path, cache: Path, skip: int
    ) -> None:
        stops.wait_for(
            process, lambda: stops.is_being_written(what, out, cache), skip,
            3 * self.seconds[recipe],
        )  # fmt: skip

    def _sleep(self, process: stops.Process, recipe: str, fraction: float = WHOLE) -> None:
        end = time.perf_counter() + self.generator.uniform(0, fraction * self.seconds[recipe])
        while time.perf_counter() < end and not process.ended():
            time.sleep(0.01)

    def _fill(self, way: str, process: stops.Process, recipe: str, out: Path, cache: Path) -> None:
        if way == "disk full":
            stops.wait_for(process, (out / VERSIONS).is_file, 0, 3 * self.seconds[recipe])
            self._sleep(process, recipe)
        else:
            self._wait_for("cache entry", process, recipe, out, cache, 0)
        if process.ended():
            self.missed[way] += 1
            check_exit_code(process)
            return
        try:
            stops.fill(self.disk, leave=int(self.generator.integers(0, 16)) * 4096)
            code = process.wait()
        finally:
            stops.free_space(self.disk)
        if code == 0:
            self.missed[way] += 1
            return
        what = stops.find_unwritten_file(process.output())
        if code not in (1, 3) or ("space left" not in process.output() and what != "cache"):
            raise SystemExit(f"{process.output()}\n{way}: the run ended with exit code {code}")
        self.stops[f"{way}: {what}"] += 1

    def run_uninterrupted(self, recipe: str) -> tuple[float, dict[str, str]]:
        """Run a recipe without interruption. Return its duration in seconds and its digests."""
        out, cache = self.disk / "whole", self.disk / "cache-whole"
        started = time.perf_counter()
        process = self.start(recipe, out, cache)
        process.wait()
        check_exit_code(process)
        seconds, actual = time.perf_counter() - started, digests(out)
        shutil.rmtree(out)
        shutil.rmtree(cache)
        return seconds, actual


def check_exit_code(process: stops.Process) -> None:
    if process.wait():
        raise SystemExit(f"{process.output()}\nthe run ended with exit code {process.code}")


def soak(disk: Path, keep: Path | None, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the soak test on a disk and return the results. Unequal runs are copied to `keep`."""
    names = arguments.recipes.split(",")
    selected = tuple(arguments.ways.split(";"))
    ways = selected if arguments.inside else tuple(way for way in selected if "disk" not in way)
    runs = Soak(disk, {}, {}, np.random.default_rng(arguments.seed), ways)
    for name in names:
        runs.seconds[name], runs.expected[name] = runs.run_uninterrupted(name)
        files = len(runs.expected[name])
        print(f"{name}: {runs.seconds[name]:.1f} s uninterrupted, {files} files compared", flush=True)
    unequal, compared = [], Counter[str]()
    total = sum(compared.values())
    while sum(n for way, n in runs.stops.items() if "of these" not in way) < arguments.stops:
        total += 1
        name = names[total % len(names)]
        out, cache = disk / f"run-{total}", disk / f"cache-{total}"
        while not (out / FINISHED).is_file():
            runs.stop_once(name, out, cache)
        actual = digests(out)
        wrong = sorted(
            file
            for file in actual.keys() | runs.expected[name].keys()
            if actual.get(file) != runs.expected[name].get(file)
        )
        compared[name] += 1
        if wrong:
            unequal.append({"run": total, "recipe": name, "files": wrong})
            if keep:
                shutil.copytree(out, keep / f"run-{total}-{name}")
        output = f"unequal: {wrong}" if wrong else "equal"
        print(
            f"run {total}, {name}: {output}; stops so far: {dict(runs.stops)}, partial files left: {dict(runs.partial_files)}",
            flush=True,
        )
        shutil.rmtree(out)
        shutil.rmtree(cache)
    return {
        "stops": dict(runs.stops), "partial_files_left": dict(runs.partial_files), "finished_before_stop": dict(runs.missed),
        "runs_compared": dict(compared), "unequal": unequal,
        "seconds_per_run": {name: round(value, 1) for name, value in runs.seconds.items()},
    }  # fmt: skip


def run_on_small_disk(base: Path) -> None:
    """Restart this program in a mount namespace with a small disk, if that is allowed."""
    trial = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", str(base)]
    if not shutil.which("unshare") or subprocess.run(trial, check=False).returncode:
        print("Cannot mount a small disk (unshare -rm): the disk full cases are skipped.")
        return
    words = [sys.executable, __file__, *sys.argv[1:], "--inside", str(base)]
    done = subprocess.run(["unshare", "-rm", *words], check=False)
    shutil.rmtree(base, ignore_errors=True)
    sys.exit(done.returncode)


def main() -> int:
    """Run the soak test."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--stops", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--ways", default=";".join(WAYS), help="ways to stop, separated by semicolons")
    parser.add_argument("--out", type=Path, help="folder for copies of unequal runs")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    base = Path(arguments.inside or tempfile.mkdtemp(prefix="kerastl-soak-"))
    disk = base / "disk"
    if not arguments.inside:
        run_on_small_disk(base)
    disk.mkdir()
    if arguments.inside:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", disk], check=True)
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    import keras_cv  # noqa: F401 - imported once, not in each run
    import matplotlib.figure  # noqa: F401

    results = soak(disk, arguments.out, arguments)
    if not arguments.inside:
        shutil.rmtree(base)
    print(json.dumps(results))
    return 1 if results["unequal"] else 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)

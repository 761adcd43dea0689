"""How fast are augmented images made: kerastl beside keras-cv, Keras, AlbumentationsX and torchvision.

    python benchmarks/augmentation.py [--quick] [--peers a,b,c] [--sizes 224,96]

Images/s of one policy of nine operations in batches of 32: mirror; turn up to 15 degrees, zoom 20 %, shift 10 %; brightness
20 %, contrast 20 %, saturation 30 %, hue 20 degrees; one rectangle up to a quarter of the side. Each peer gets the same images
(uint8, random crops of scikit-learn's two sample photographs, at size: nothing is decoded), runs as its own documentation
recommends, and hands over batches. Each has a process of its own, which lives through all rounds and waits for its
turn: imports, tracing, compiling and the start of workers are not counted. Peers are alternated round by
round; ratios are taken within a round, and their median is told.

`keras-cv`, `keras` and `kerastl` run in the interpreter that runs this file: both are kerastl's own dependencies, at the
releases it pins. The others get environments of their own from `benchmarks/peers/NAME.txt` in the cache
folder (KERASTL_CACHE); one that cannot be made is told and left out.

What the peers do not do alike:
- keras-cv, Keras and kerastl take and give float32, the others uint8, a quarter of the bytes, as each recommends.
- AlbumentationsX and torchvision make rotation, zoom and shift one transform, as they recommend; kerastl folds them and the mirror
  into one; keras-cv, Keras and kerastl's `exact` path interpolate three times. All are bilinear.
- Borders are filled by reflection, in torchvision by one colour: it knows nothing else.
- Brightness is added to every pixel, by torchvision it multiplies. Contrast is stretched about each channel's mean, by AlbumentationsX
  about black (the quicker of its two ways: one table for both), by torchvision about the mean of the grey image.
- Saturation is multiplied in HSV, by AlbumentationsX shifted in HSV, by torchvision blended with grey. Hue turns in HSV everywhere,
  in AlbumentationsX in steps of 2 degrees.
- The rectangle lies inside the image; keras-cv's may cross the border, torchvision's is drawn by area and aspect.
- torchvision changes a batch by one draw when it is handed a batch: `torchvision-batched` is another augmentation.
- AlbumentationsX runs on OpenCV 4.14. It asks for 5.0, whose warp is slower: the policy then takes a tenth longer at 224 px, and as
  long at 96.

The memory bound is measured beside them: float32 batches read once and written once, on all cores, from memory that no cache
holds. On a machine that others use, images per second of processor time (its workers' included) move less than images/s; but
torch's threads then wait for each other in a loop that computes, and `torchvision-loop` and `-batched` tell nothing.
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peer_environments import Unavailable, last_line, python_of

HERE = Path(__file__).parent
WORKERS = HERE / "_augmentation_peers"
NUM_IMAGES = 64
BASELINES = ("keras-cv", "albumentationsx-workers")
BOUND, OURS = "memory-copy", "kerastl-compiled"

Speed = tuple[float, float]
"""Images per second, and per second of processor time."""


@dataclass(frozen=True)
class Peer:
    """One column of the benchmark.

    Args:
        script: file in `_augmentation_peers`.
        variant: handed to it.
        environment: name of its requirements in `peers`; empty: this interpreter.
    """

    script: str
    variant: str = ""
    environment: str = ""


PEERS = {
    "keras-cv": Peer("with_keras_cv.py"),
    "kerastl-exact": Peer("with_kerastl.py", "exact"),
    "kerastl-compiled": Peer("with_kerastl.py", "compiled"),
    "albumentationsx-loop": Peer("with_albumentationsx.py", "loop", "albumentationsx"),
    "albumentationsx-workers": Peer("with_albumentationsx.py", "workers", "albumentationsx"),
    "torchvision-loop": Peer("with_torchvision.py", "loop", "torchvision"),
    "torchvision-batched": Peer("with_torchvision.py", "batched", "torchvision"),
    "torchvision-workers": Peer("with_torchvision.py", "workers", "torchvision"),
    "keras": Peer("with_keras.py"),
    "memory-copy": Peer("memory_copy.py"),
}


class Process:
    """One peer's process: started, warm, waiting for its turn."""

    def __init__(self, name: str, images: Path) -> None:
        peer, self.name = PEERS[name], name
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115, it lives as long as the process
        self._process = subprocess.Popen(
            [python_of(peer.environment), WORKERS / peer.script, images, peer.variant],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
        )  # fmt: skip
        description = self._answer()
        self.versions: dict[str, str] = description["versions"]
        self.yields: str = description["yields"]

    def burst(self, size: int, seconds: float) -> Speed:
        """Return images per second, and per second of processor time, of one burst."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{size} {seconds}\n")
        self._process.stdin.flush()
        answer = self._answer()
        return answer["images"] / answer["seconds"], answer["images"] / answer["cpu_seconds"]

    def end(self) -> None:
        """Close its input, at which it ends."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return dict(json.loads(line))
        self._process.wait()
        self._log.seek(0)
        raise Unavailable(f"its process ended: {last_line(self._log.read())}")


def write_images(folder: Path, sizes: list[int]) -> None:
    """Write `SIZE.npy`, `[64, size, size, 3]` uint8: random crops of two photographs."""
    import numpy as np
    from sklearn.datasets import load_sample_images

    photographs = load_sample_images().images
    generator = np.random.default_rng(0)
    for size in sizes:
        crops = []
        for index in range(NUM_IMAGES):
            photograph = photographs[index % len(photographs)]
            top, left = (int(generator.integers(side - size + 1)) for side in photograph.shape[:2])
            crops.append(photograph[top : top + size, left : left + size])
        np.save(folder / f"{size}.npy", np.stack(crops))


def start_processes(names: list[str], images: Path) -> Iterator[Process | tuple[str, str]]:
    """Yield a waiting process for each peer, or its name and why there is none."""
    for name in names:
        try:
            yield Process(name, images)
        except (Unavailable, OSError) as error:
            print(f"{name}: left out, {error}", file=sys.stderr, flush=True)
            yield name, str(error)


def measure(processes: list[Process], size: int, rounds: int, seconds: float) -> dict[str, list[Speed]]:
    """Return speeds by peer, one a round."""
    speeds: dict[str, list[Speed]] = {process.name: [] for process in processes}
    for _ in range(rounds):
        for process in processes:
            speeds[process.name].append(process.burst(size, seconds))
    return speeds


def summary(bursts: dict[str, list[Speed]]) -> dict[str, Any]:
    """Return median, least and most images/s by peer, and median ratios within rounds."""
    totals: dict[str, Any] = {"images_per_s": {}, "images_per_cpu_s": {}, "ratio_to": {}}
    speeds = {name: [speed for speed, _ in values] for name, values in bursts.items()}
    for name, values in speeds.items():
        totals["images_per_s"][name] = {
            "median": round(statistics.median(values), 1),
            "min": round(min(values), 1),
            "max": round(max(values), 1),
        }
        per_cpu = statistics.median(speed for _, speed in bursts[name])
        totals["images_per_cpu_s"][name] = round(per_cpu, 1)
    for baseline in BASELINES:
        if baseline in speeds:
            totals["ratio_to"][baseline] = {
                name: round(_ratio(values, speeds[baseline]), 2) for name, values in speeds.items()
            }
    if BOUND in speeds and OURS in speeds:
        totals["memory_passes"] = round(_ratio(speeds[BOUND], speeds[OURS]), 1)
    return totals


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def print_table(size: int, totals: dict[str, Any], processes: list[Process]) -> None:
    columns = list(totals["ratio_to"])
    heads = "".join(f"{'x ' + name:>27}" for name in columns)
    print(f"\n{size} px{'':20}{'images/s':>10}{'min':>9}{'max':>9}{'/CPU s':>9}{heads}  yields")
    for process in processes:
        name, speed = process.name, totals["images_per_s"][process.name]
        ratios = "".join(f"{totals['ratio_to'][column][name]:>27.2f}" for column in columns)
        per_cpu = totals["images_per_cpu_s"][name]
        row = f"{name:26}{speed['median']:>10.0f}{speed['min']:>9.0f}{speed['max']:>9.0f}{per_cpu:>9.0f}"
        print(f"{row}{ratios}  {process.yields}")
    if "memory_passes" in totals:
        print(f"{OURS} takes as long as {totals['memory_passes']} passes over its float32 batches.")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two rounds of short bursts")
    parser.add_argument("--peers", default=",".join(PEERS), help="names, with commas between them")
    parser.add_argument("--sizes", default="224,96", help="sides in pixels")
    arguments = parser.parse_args()
    names, sizes = arguments.peers.split(","), [int(size) for size in arguments.sizes.split(",")]
    if unknown := sorted(set(names) - set(PEERS)):
        parser.error(f"no peer '{unknown[0]}'. Known: {', '.join(PEERS)}")
    rounds, seconds = (2, 0.7) if arguments.quick else (5, 2.5)
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), sizes)
        attempts = list(start_processes(names, Path(folder)))
        processes = [attempt for attempt in attempts if isinstance(attempt, Process)]
        totals = {}
        for size in sizes:
            totals[str(size)] = summary(measure(processes, size, rounds, seconds))
            print_table(size, totals[str(size)], processes)
        for process in processes:
            process.end()
    print(
        json.dumps(
            {
                "sizes": totals,
                "missing": dict(attempt for attempt in attempts if not isinstance(attempt, Process)),
                "versions": {key: value for process in processes for key, value in process.versions.items()},
                "cores": len(os.sched_getaffinity(0)),
                "python": platform.python_version(),
            }
        )
    )  # fmt: skip
    return 0 if processes else 1


if __name__ == "__main__":
    sys.exit(main())

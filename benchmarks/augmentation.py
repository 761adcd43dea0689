"""Speed of image augmentation: kerastl, keras-cv, Keras, AlbumentationsX and torchvision.

    python benchmarks/augmentation.py [--quick] [--peers a,b,c] [--sizes 224,96]

Measures images/s of a policy of nine operations in batches of 32: horizontal flip; rotation up to 15 degrees, zoom 20%, translation
10%; brightness 20%, contrast 20%, saturation 30%, hue 20 degrees; one cutout up to a quarter of the side. All peers get the
same images (uint8, random crops of scikit-learn's two sample photographs, without decoding), run as their own documentation
recommends, and yield batches. Each peer has its own process for all rounds. Imports, tracing, compilation and the start
of workers are not timed. The peers run in turn in each round. Ratios are computed within a round, and their median is reported.

`keras-cv`, `keras` and `kerastl` run in the current interpreter, because they are dependencies of kerastl with pinned
versions. The other peers get environments from `benchmarks/peers/NAME.txt` in the cache folder (KERASTL_CACHE). A peer
that cannot be installed is reported and left out.

Differences between the peers:
- keras-cv, Keras and kerastl use float32, the others uint8, a quarter of the bytes, as each recommends.
- AlbumentationsX and torchvision combine rotation, zoom and translation in one transform, as they recommend. kerastl also includes
  the flip; keras-cv, Keras and the `exact` path of kerastl interpolate three times. All use bilinear interpolation.
- Borders are filled by reflection, in torchvision by a constant color, the only mode it supports.
- Brightness is added to each pixel; torchvision multiplies it. Contrast is scaled around the mean of each channel, in
  AlbumentationsX around black (the faster of its two modes: one lookup table for both), in torchvision around the mean gray value.
- Saturation is multiplied in HSV, in AlbumentationsX shifted in HSV, in torchvision blended with gray. Hue is rotated in HSV,
  in AlbumentationsX in steps of 2 degrees.
- The cutout lies inside the image. It may cross the border in keras-cv, and torchvision draws its area and aspect ratio.
- torchvision applies the same random parameters to all images of a batch: `torchvision-batched` is a different augmentation.
- AlbumentationsX runs with OpenCV 4.14. It requires 5.0, with a slower warp: the policy then takes 10 % longer at 224 px, and
  the same time at 96 px.

The memory bound is measured, too: float32 batches are read once and written once, by all cores, from memory larger than any
cache. On a shared machine, images per CPU second (including workers) vary less than images/s. However, torch's threads
wait in a busy loop, so this number is meaningless for `torchvision-loop` and `-batched`.
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
"""Images per second and images per CPU second."""


@dataclass(frozen=True)
class Peer:
    """One peer of the benchmark.

    Args:
        script: File in `_augmentation_peers`.
        variant: Argument of the script.
        environment: Name of the requirements file in `peers`. Empty: the current interpreter.
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
    """The process of a peer, started and warmed up."""

    def __init__(self, name: str, images: Path) -> None:
        peer, self.name = PEERS[name], name
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open as long as the process runs
        self._process = subprocess.Popen(
            [python_of(peer.environment), WORKERS / peer.script, images, peer.variant],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
        )  # fmt: skip
        description = self._read_response()
        self.versions: dict[str, str] = description["versions"]
        self.yields: str = description["yields"]

    def burst(self, size: int, seconds: float) -> Speed:
        """Return images per second and images per CPU second of one burst."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{size} {seconds}\n")
        self._process.stdin.flush()
        response = self._read_response()
        return response["images"] / response["seconds"], response["images"] / response["cpu_seconds"]

    def end(self) -> None:
        """Close the input of the process, which ends it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _read_response(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return dict(json.loads(line))
        self._process.wait()
        self._log.seek(0)
        raise Unavailable(f"the process ended: {last_line(self._log.read())}")


def write_images(folder: Path, sizes: list[int]) -> None:
    """Write `SIZE.npy`, `[64, size, size, 3]`, uint8: random crops of two photographs."""
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
    """Yield the process of each peer, or its name and the reason why it is unavailable."""
    for name in names:
        try:
            yield Process(name, images)
        except (Unavailable, OSError) as error:
            print(f"{name}: not measured: {error}", file=sys.stderr, flush=True)
            yield name, str(error)


def measure(processes: list[Process], size: int, rounds: int, seconds: float) -> dict[str, list[Speed]]:
    """Return the speeds of each peer, one per round."""
    speeds: dict[str, list[Speed]] = {process.name: [] for process in processes}
    for _ in range(rounds):
        for process in processes:
            speeds[process.name].append(process.burst(size, seconds))
    return speeds


def summary(bursts: dict[str, list[Speed]]) -> dict[str, Any]:
    """Return median, minimum and maximum of images/s by peer, and median ratios within rounds."""
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
    parser.add_argument("--peers", default=",".join(PEERS), help="names, separated by commas")
    parser.add_argument("--sizes", default="224,96", help="image sizes in pixels")
    arguments = parser.parse_args()
    names, sizes = arguments.peers.split(","), [int(size) for size in arguments.sizes.split(",")]
    if unknown := sorted(set(names) - set(PEERS)):
        parser.error(f"unknown peer '{unknown[0]}'. Allowed: {', '.join(PEERS)}")
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

"""Duration of a training phase: kerastl, Keras, PyTorch with torchvision, and fastai.

    python benchmarks/training.py [--quick] [--peers a,b,c] [--sizes 96] [--tasks head,last] [--images 2000] [--epochs 10]
                                  [--rounds 3] [--weights imagenet] [--curve images|epochs [--points 1000,10000] [--figure curve.png]]

The images are phantom slices of hospital A, written as 8-bit PNG files with one subfolder per class, 80 % for training and the rest
for validation. All peers read the same files. `head` trains a new head for ten epochs on a frozen MobileNetV2
(`--backbone resnet50`: ResNet50). `last` trains the last 30 % of the network, too. BatchNorm is always frozen.
Each peer runs as its own documentation recommends, in its own process, in turn in each round. The seconds from the first step to the
last are reported, including validation and decoding. The start-up (imports and model building) is reported separately.

- `keras` caches the decoded images in memory, and calls the base model with `training=False`, as Keras's guide does. Its step
  is not compiled with XLA. `keras-xla` uses XLA, the default of `compile` even on CPUs; it runs only if named.
- `torch` and `torch-bf16` use two DataLoader workers and channels_last, and decode the images in each epoch. `torch-bf16` is skipped
  on CPUs without bfloat16 instructions unless named.
- `fastai` also freezes BatchNorm. `fastai-defaults` follows its documentation, which is different work: BatchNorm is trained, and
  `last` is `fine_tune`, one epoch of the head and then all layers. It runs only if named.
- `kerastl` uses `cache: auto` (head: features), `kerastl-none` no cache, `kerastl-boundary` caches the activations at the boundary, and
  `-fresh` peers use a new augmentation in each epoch: flips and rotations up to 36 degrees.

Without `--weights imagenet` the weights are random: the durations are the same, and the accuracies are meaningless. With it, this
applies to rows with `random` weights: PyTorch's weights are used if cached, and never downloaded. `--curve` measures how
the duration grows, for Keras and for kerastl with and without a cache. The last line is one JSON object.
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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peer_environments import Unavailable, last_line, python_of
from training_curve import draw_curve, parse_points, print_curve
from training_images import write_images

HERE = Path(__file__).parent
WORKERS = HERE / "_training_peers"
SCRIPT_PATHS = (str(HERE), str(HERE / "_augmentation_peers"))
"""Folders with modules that the scripts of the peers import."""
EPOCHS = 10
IN_MEMORY_BYTES = 4e9
"""If the decoded images need more bytes, they are decoded in each epoch instead of cached."""
BFLOAT16 = ("avx512_bf16", "amx_bf16")
"""CPU flags of Linux."""


@dataclass(frozen=True)
class Peer:
    """How to run a peer.

    Args:
        script: File in `_training_peers`.
        sets: Fields of its task.
        environment: Name of the requirements file in `peers`. Empty: the current interpreter.
        tasks: Its tasks.
        named_only: Whether it runs only if named in `--peers`.
    """

    script: str
    sets: dict[str, Any]
    environment: str = ""
    tasks: tuple[str, ...] = ("head", "last")
    named_only: bool = False


def has_bfloat16() -> bool:
    """Return whether the CPU has bfloat16 instructions, according to Linux."""
    words = Path("/proc/cpuinfo")
    return words.is_file() and any(flag in words.read_text().split() for flag in BFLOAT16)


PEERS = {
    "keras": Peer("with_keras.py", {}),
    "keras-xla": Peer("with_keras.py", {"xla": "auto"}, named_only=True),
    "keras-fresh": Peer("with_keras.py", {"augment": True}),
    "torch": Peer("with_torch.py", {}, "torchvision"),
    "torch-bf16": Peer("with_torch.py", {"half": True}, "torchvision", named_only=not has_bfloat16()),
    "torch-fresh": Peer("with_torch.py", {"augment": True}, "torchvision"),
    "fastai": Peer("with_fastai.py", {}, "fastai"),
    "fastai-defaults": Peer("with_fastai.py", {"defaults": True}, "fastai", named_only=True),
    "kerastl": Peer("with_kerastl.py", {"cache": "auto"}, tasks=("head",)),
    "kerastl-none": Peer("with_kerastl.py", {}),
    "kerastl-boundary": Peer("with_kerastl.py", {"cache": "boundary"}, tasks=("last",)),
    "kerastl-fresh": Peer("with_kerastl.py", {"augment": True}),
}
ON_CURVES = ("keras", "kerastl-none", "kerastl")


def run_once(name: str, task: dict[str, Any]) -> dict[str, Any]:
    """Run one peer on one task and return its results.

    Raises:
        Unavailable: The peer failed.
    """
    peer = PEERS[name]
    with tempfile.TemporaryDirectory() as scratch:
        settings = json.dumps({**task, **peer.sets, "scratch": scratch})
        done = subprocess.run(
            [python_of(peer.environment), WORKERS / peer.script, settings], capture_output=True, text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(SCRIPT_PATHS), "TF_CPP_MIN_LOG_LEVEL": "2"},
        )  # fmt: skip
    if done.returncode:
        raise Unavailable(f"{name} ended with {done.returncode}: {last_line(done.stderr)}")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def measure(names: Sequence[str], task: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Run all peers in turn in each round. Return medians, and ratios to `keras` within rounds."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    missing: dict[str, str] = {}
    for _ in range(rounds):
        for name in names:
            if name in missing:
                continue
            try:
                runs[name].append(run_once(name, task))
            except (Unavailable, OSError) as error:
                missing[name] = str(error)
                print(f"{name}: {error}", file=sys.stderr)
    summaries: dict[str, Any] = {"missing": missing}
    for name in names:
        if name in missing:
            continue
        seconds = [run["training_s"] for run in runs[name]]
        summaries[name] = {
            "training_s": statistics.median(seconds), "min": min(seconds), "max": max(seconds),
            "start_up_s": statistics.median(run["start_up_s"] for run in runs[name]),
            "accuracy": statistics.median(run["accuracy"] for run in runs[name]),
            "weights": runs[name][0]["weights"],
        }  # fmt: skip
        base = "keras-fresh" if name.endswith("-fresh") else "keras"
        if base in runs and base not in missing:
            pairs = zip(runs[base], runs[name], strict=True)
            summaries[name]["x_keras"] = statistics.median(
                baseline["training_s"] / run["training_s"] for baseline, run in pairs
            )
    return summaries


def get_epochs(arguments: argparse.Namespace) -> int:
    """Return the number of epochs of a task."""
    return int(arguments.epochs or (2 if arguments.quick else EPOCHS))


def make_task(
    arguments: argparse.Namespace, folder: Path, part: str, size: int, images: int, epochs: int
) -> dict[str, Any]:
    """Return the task shared by all peers. Each peer overrides some fields."""
    return {
        "folder": str(folder), "size": size, "epochs": epochs, "part": part,
        "augment": False, "cache": "none", "precision": "float32", "half": False, "xla": "off",
        "defaults": False, "in_memory": images * size * size * 12 <= IN_MEMORY_BYTES,
        "options": {}, "classes": 2, "backbone": arguments.backbone,
        "weights": find_weights_file(arguments, size), "rate": 1e-3 if part == "head" else 1e-4, "seed": 1,
    }  # fmt: skip


def find_weights_file(arguments: argparse.Namespace, size: int) -> str:
    """Return the file of weights for Keras and kerastl, or `none`.

    Raises:
        SystemExit: The weights are not on this machine.
    """
    if arguments.weights == "none":
        return "none"
    from kerastl.models import locate_weights

    located = locate_weights(arguments.backbone, image_size_px=size)
    if located is None:
        raise SystemExit(
            f"The weights are not on this machine. Run: kerastl weights fetch {arguments.backbone}"
        )
    return str(located.path)


def print_table(title: str, rows: dict[str, Any]) -> None:
    """Print the results as a Markdown table."""
    print(f"\n| {title} | seconds | min to max | start-up | times keras | accuracy | weights |")
    print("|---|---|---|---|---|---|---|")
    for name, row in rows.items():
        if name == "missing":
            continue
        ratio = f"{row['x_keras']:.2f}" if "x_keras" in row else ""
        print(
            f"| {name} | {row['training_s']:.1f} | {row['min']:.1f} to {row['max']:.1f} | {row['start_up_s']:.1f} "
            f"| {ratio} | {row['accuracy']:.3f} | {row['weights']} |",
            flush=True,
        )
    for name, reason in rows["missing"].items():
        print(f"| {name} | not run: {reason} | | | | | |")


def run_tasks(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure every task at every size. Print and return the tables."""
    tables: dict[str, Any] = {}
    chosen = arguments.peers.split(",") if arguments.peers else ()
    images, rounds = (60, 1) if arguments.quick else (arguments.images, arguments.rounds)
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), images)
        for size in map(int, arguments.sizes.split(",")):
            for part in arguments.tasks.split(","):
                epochs = get_epochs(arguments)
                names = [
                    name
                    for name, peer in PEERS.items()
                    if part in peer.tasks and (name in chosen if chosen else not peer.named_only)
                ]
                task = make_task(arguments, Path(folder), part, size, images, epochs)
                rows = measure(names, task, rounds)
                tables[f"{part} {size}"] = rows
                what = f"{arguments.backbone}, {part}, {epochs} epochs, {images:,} images, {size} px"
                print_table(what, rows)
    return tables


def run_curve(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure the growth along one axis in one round. Print, plot and return it."""
    axis, size = arguments.curve, int(arguments.sizes.split(",")[0])
    part = arguments.tasks.split(",")[0]
    names = arguments.peers.split(",") if arguments.peers else ON_CURVES
    rows: dict[str, dict[int, float]] = {name: {} for name in names if part in PEERS[name].tasks}
    fixed = 60 if arguments.quick else arguments.images
    for point in parse_points(axis, arguments.points, quick=arguments.quick):
        images, epochs = point, get_epochs(arguments)
        if axis == "epochs":
            images, epochs = fixed, point
        with tempfile.TemporaryDirectory() as folder:
            write_images(Path(folder), images)
            task = make_task(arguments, Path(folder), part, size, images, epochs)
            for name, row in measure(tuple(rows), task, 1).items():
                if name in rows:
                    rows[name][point] = row["training_s"]
                    print(f"{name}, {point} {axis}: {row['training_s']:.1f} s", file=sys.stderr)
    rest = f"{fixed:,} images" if axis == "epochs" else f"{epochs} epochs"
    title = f"{arguments.backbone}, {part}, {rest}, {size} px"
    print(f"\n{title}\n")
    print_curve(axis, rows)
    if arguments.figure:
        draw_curve(axis, rows, Path(arguments.figure), title=title)
    return {axis: rows}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round, few images, two epochs")
    parser.add_argument("--peers", help=f"any of {', '.join(PEERS)}; default: all suitable for this machine")
    parser.add_argument("--sizes", default="96", help="image sizes in pixels")
    parser.add_argument("--tasks", default="head,last")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, help="epochs of each task (default: 10)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backbone", choices=["mobilenet_v2", "resnet50"], default="mobilenet_v2")
    parser.add_argument("--weights", choices=["imagenet", "none"], default="none")
    parser.add_argument(
        "--curve", choices=["images", "epochs"], help="measure the growth along this axis instead"
    )
    parser.add_argument("--points", help="points of the curve, such as 1000,10000")
    parser.add_argument("--figure", help="PNG of the curve")
    arguments = parser.parse_args()
    results = {"curve": run_curve(arguments)} if arguments.curve else {"tasks": run_tasks(arguments)}
    print(json.dumps({**results, "cores": os.cpu_count(), "python": platform.python_version()}))


if __name__ == "__main__":
    main()

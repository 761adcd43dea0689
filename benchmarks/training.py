"""How long does a phase take: kerastl beside Keras alone and torchvision with PyTorch.

    python benchmarks/training.py [--quick] [--peers a,b,c] [--sizes 96] [--tasks head,last] [--images 2000]

Pictures are phantom slices of hospital A, written as 8-bit PNG, a sub-folder a class, 80 % for training and the rest for
validation; every peer reads the same files. `head` trains a new head for ten epochs on a frozen MobileNetV2
(`--backbone resnet50`: ResNet50); `last` trains the last 30 % of the network, too, for three. BatchNorm is frozen everywhere.
Each peer runs as its own documentation recommends, in a process of its own, in turn, round by round. Told are the seconds from
the first step to the last, validation and decoding included; start-up, imports and building, stands by itself.

- `keras` caches the decoded pictures in memory, and calls the base with training=False, as Keras's guide does.
- `torch` and `torch-bf16` have two DataLoader workers and channels_last, and decode anew each epoch; no weights are loaded,
  so their accuracy says nothing.
- `kerastl` has `cache: auto` (head: features), `kerastl-none` no cache, `kerastl-boundary` the activations at the border, and the
  `-fresh` ones an augmentation that is new in each epoch: a mirror and turns up to 36 degrees, on both sides.

`--weights none` runs without ImageNet weights; times are the same. The last line is one JSON object.
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

import numpy as np
from peer_environments import Unavailable, last_line, python_of
from PIL import Image

HERE = Path(__file__).parent
WORKERS = HERE / "_training_peers"
PLACES = (str(HERE), str(HERE / "_augmentation_peers"))
"""Where the scripts of the peers find what they share."""
EPOCHS = {"head": 10, "last": 3}


@dataclass(frozen=True)
class Peer:
    """How one peer is run: its script, its environment, and what is set for it."""

    script: str
    sets: dict[str, Any]
    environment: str = ""
    tasks: tuple[str, ...] = ("head", "last")


PEERS = {
    "keras": Peer("with_keras.py", {}),
    "keras-fresh": Peer("with_keras.py", {"augment": True}),
    "torch": Peer("with_torch.py", {}, "torchvision"),
    "torch-bf16": Peer("with_torch.py", {"half": True}, "torchvision"),
    "torch-fresh": Peer("with_torch.py", {"augment": True}, "torchvision"),
    "kerastl": Peer("with_kerastl.py", {"cache": "auto"}, tasks=("head",)),
    "kerastl-none": Peer("with_kerastl.py", {}),
    "kerastl-boundary": Peer("with_kerastl.py", {"cache": "boundary"}, tasks=("last",)),
    "kerastl-fresh": Peer("with_kerastl.py", {"augment": True}),
}


def write_pictures(folder: Path, count: int) -> None:
    """Write phantom slices as PNG in `train/CLASS` and `val/CLASS`, every fifth patient to `val`."""
    drawn = folder / "phantom"
    subprocess.run(
        [sys.executable, "-m", "kerastl", "data", "phantom", drawn, "--hospital", "a",
         "--patients", str(-(-count // 4)), "--seed", "1"],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    (table,) = drawn.glob("*.csv")
    import csv

    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[:count]
    patients = sorted({row["patient_id"] for row in rows})
    held_out = set(patients[::5])
    for number, row in enumerate(rows):
        split = "val" if row["patient_id"] in held_out else "train"
        out = folder / split / row["label"] / f"{number:05d}.png"
        out.parent.mkdir(parents=True, exist_ok=True)
        values = np.asarray(Image.open(drawn / row["path"]), np.float32)
        # A window from -1000 to 400 HU, as lungs are looked at.
        grey = np.clip((values - 24.0) / 1400.0, 0, 1) * 255
        Image.fromarray(grey.astype(np.uint8)).convert("RGB").save(out)


def run_once(name: str, task: dict[str, Any]) -> dict[str, float]:
    """Run one peer on one task; return what it tells.

    Raises:
        Unavailable: it cannot be run.
    """
    peer = PEERS[name]
    with tempfile.TemporaryDirectory() as scratch:
        told = json.dumps({**task, **peer.sets, "scratch": scratch})
        done = subprocess.run(
            [python_of(peer.environment), WORKERS / peer.script, told], capture_output=True, text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(PLACES), "TF_CPP_MIN_LOG_LEVEL": "2"},
        )  # fmt: skip
    if done.returncode:
        raise Unavailable(f"{name} ended with {done.returncode}: {last_line(done.stderr)}")
    answer: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def measured(names: Sequence[str], task: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Run all peers in turn, round by round; return medians, and ratios to `keras` taken within rounds."""
    told: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    missing: dict[str, str] = {}
    for _ in range(rounds):
        for name in names:
            if name in missing:
                continue
            try:
                told[name].append(run_once(name, task))
            except (Unavailable, OSError) as error:
                missing[name] = str(error)
                print(f"{name}: {error}", file=sys.stderr)
    found: dict[str, Any] = {"missing": missing}
    for name in names:
        if name in missing:
            continue
        seconds = [one["training_s"] for one in told[name]]
        found[name] = {
            "training_s": statistics.median(seconds), "min": min(seconds), "max": max(seconds),
            "start_up_s": statistics.median(one["start_up_s"] for one in told[name]),
            "accuracy": statistics.median(one["accuracy"] for one in told[name]),
        }  # fmt: skip
        base = "keras-fresh" if name.endswith("-fresh") else "keras"
        if base in told and base not in missing:
            pairs = zip(told[base], told[name], strict=True)
            found[name]["x_keras"] = statistics.median(
                one["training_s"] / other["training_s"] for one, other in pairs
            )
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round of few pictures")
    parser.add_argument("--peers", default=",".join(PEERS), help="names, with commas between them")
    parser.add_argument("--sizes", default="96", help="sides in pixels")
    parser.add_argument("--tasks", default="head,last")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backbone", choices=["mobilenet_v2", "resnet50"], default="mobilenet_v2")
    parser.add_argument("--weights", choices=["imagenet", "none"], default="none")
    arguments = parser.parse_args()
    images, rounds = (200, 1) if arguments.quick else (arguments.images, arguments.rounds)
    told: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pictures(folder, images)
        for size in map(int, arguments.sizes.split(",")):
            for part in arguments.tasks.split(","):
                task = {
                    "folder": str(folder), "size": size, "epochs": EPOCHS[part], "part": part,
                    "augment": False, "cache": "none", "half": False, "options": {}, "classes": 2,
                    "backbone": arguments.backbone, "weights": arguments.weights,
                    "rate": 1e-3 if part == "head" else 1e-4, "seed": 1,
                }  # fmt: skip
                names = [one for one in arguments.peers.split(",") if part in PEERS[one].tasks]
                rows = measured(names, task, rounds)
                told[f"{part} {size}"] = rows
                print(f"\n{part}, {EPOCHS[part]} epochs, {images} pictures, {size} px")
                print(
                    f"{'':18} {'seconds':>8} {'min':>7} {'max':>7} {'start-up':>9} {'x keras':>8} {'accuracy':>9}"
                )
                for one in names:
                    if one in rows:
                        row = rows[one]
                        print(
                            f"{one:18} {row['training_s']:8.1f} {row['min']:7.1f} {row['max']:7.1f} {row['start_up_s']:9.1f} "
                            f"{row.get('x_keras', float('nan')):8.2f} {row['accuracy']:9.3f}",
                            flush=True,
                        )
    print(json.dumps({"tasks": told, "cores": os.cpu_count(), "python": platform.python_version()}))


if __name__ == "__main__":
    main()

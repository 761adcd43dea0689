"""How much adapting without labels gains, by method, by our choice among them, and by a choice that knew the labels.

    python benchmarks/adaptation.py [--tasks "a to b,a to c"] [--methods adabn,coral] [--seeds 5] [--quick] [--mnist mnist.npz]

Each task and seed is one `kerastl run --oracle` of a recipe that is printed with `--recipe`: a small network from random weights
learns at the source, each method goes on from it with unlabelled pictures of the target, one is chosen without labels, and then all are
judged on the target's test pictures. Phantom hospitals are told by the AUC of patients, digits by balanced accuracy.

- `a to b`: another scanner. `a to c`: the same scanner, another prevalence. `a to a`: nothing differs.
- `mnist to digits`, `digits to mnist`: MNIST and the 1,797 digits of scikit-learn (Alpaydin & Kaynak 1998); for these name
  MNIST's file as Keras keeps it, `--mnist ~/.keras/datasets/mnist.npz`.

Told are medians over seeds, least and greatest in brackets; `closed` is the part of the gap between source only and the best method
that the choice closes, where there is a gap of a point at least. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

METHODS = "adabn,coral,mmd,jan,dann,cdan,mcc,mdd,pseudo_labels,tent,shot"
LEAST_GAP = 0.01
RECIPE = """\
format: 1
seed: {seed}
data:
  reader: {source}
  split: {{val_fraction: 0.2, test_fraction: 0.1}}
  image_size_px: {size}
  batch_size: 32
backbone: {{name: small_cnn, weights: none}}
phases:
  - {{name: source, epochs: {epochs}, learning_rate: 1e-3, trainable: all}}
  - {{name: adapt, domain: target, epochs: {adapt_epochs}, learning_rate: 3e-4, trainable: all, batch_norm: statistics, keep: last}}
target:
  reader: {target}
  labels: none
  split: {{val_fraction: 0.0, test_fraction: 0.5}}
adaptation: {{methods: [{methods}]}}
export: {{formats: []}}
"""


def phantom(hospital: str, patients: int) -> str:
    """Return the reader of a drawn hospital."""
    return f"{{name: phantom, hospital: {hospital}, patients: {patients}}}"


def write_digits(folder: Path, images: Any, labels: Any) -> str:
    """Write digits as PNG, a sub-folder a class; return the reader."""
    from PIL import Image

    for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        out = folder / str(int(label)) / f"{number:05d}.png"
        out.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((32, 32), Image.Resampling.BILINEAR).save(out)
    return f"{{name: folder, path: {folder}}}"


def digits_of(name: str, mnist: Path | None, count: int) -> tuple[Any, Any]:
    """Return `[n, h, w]` uint8 pictures and their digits.

    Raises:
        SystemExit: MNIST is asked for, and its file is not named.
    """
    if name == "digits":
        from sklearn.datasets import load_digits

        found = load_digits()
        images, labels = (found.images * (255 / 16)).astype(np.uint8), found.target
    elif mnist is None:
        raise SystemExit("MNIST lies in no package: --mnist FILE.npz, as Keras keeps it.")
    else:
        with np.load(mnist) as file:
            keys = ("x_train", "y_train") if "x_train" in file else ("mnist_x", "mnist_y")
            images, labels = (file[key] for key in keys)
    chosen = np.random.default_rng(0).permutation(len(images))[:count]
    return images[chosen], labels[chosen]


def readers_of(task: str, folder: Path, arguments: argparse.Namespace) -> tuple[str, str, int]:
    """Return the readers of source and target, and the side of the pictures."""
    source, target = task.split(" to ")
    if source in ("a", "b", "c"):
        most = 40 if arguments.quick else 160
        return phantom(source, most), phantom(target, most // 2), 64
    count = 300 if arguments.quick else 1797
    written = [
        write_digits(folder / name, *digits_of(name, arguments.mnist, count))
        for name in (source, target)
    ]
    return written[0], written[1], 32


def run_once(task: str, seed: int, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run one task; return what was decided, and the metric of every candidate."""
    source, target, size = readers_of(task, folder, arguments)
    recipe = folder / f"seed-{seed}.yaml"
    recipe.write_text(
        RECIPE.format(
            seed=seed, source=source, target=target, size=size, methods=arguments.methods,
            epochs=3 if arguments.quick else 20, adapt_epochs=1 if arguments.quick else 5,
        )
    )  # fmt: skip
    if arguments.recipe:
        print(recipe.read_text())
    out = folder / f"run-{seed}"
    done = subprocess.run(
        [sys.executable, "-m", "kerastl", "run", recipe, "--out", out, "--oracle"],
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{task}, seed {seed}:\n{done.stderr[-2000:]}")
    told = json.loads((out / "adaptation.json").read_text())
    metric = "group_auc" if source.startswith("{name: phantom") else "balanced_accuracy"
    values = {name: scores[metric]["value"] for name, scores in told["oracle"].items()}
    guards = [name for name, guard in told["guards"].items() if guard["fired"]]
    return {
        "values": values,
        "chosen": told["chosen"],
        "verdict": told["verdict"],
        "guards": guards,
    }


def spread(values: Sequence[float]) -> str:
    """Return the median, and in brackets the least and the greatest."""
    middle = statistics.median(values)
    return f"{middle:.3f}" + (
        f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
    )


def print_task(task: str, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Print what the runs of a task came to; return it."""
    print(f"\n| {task}, {len(runs)} seeds | at the target |\n|---|---|")
    for name in runs[0]["values"]:
        print(f"| {name} | {spread([one['values'][name] for one in runs])} |")
    ours = [one["values"][one["chosen"]] for one in runs]
    best = [max(one["values"].values()) for one in runs]
    plain = [one["values"]["source_only"] for one in runs]
    closed = [
        (mine - first) / (most - first)
        for mine, first, most in zip(ours, plain, best, strict=True)
        if most - first > LEAST_GAP
    ]
    print(f"| **our choice** | {spread(ours)} |\n| the best, by its labels | {spread(best)} |")
    verdicts = Counter(one["verdict"] for one in runs)
    chosen = Counter(one["chosen"] for one in runs)
    told = {
        "choice": statistics.median(ours), "source_only": statistics.median(plain),
        "oracle": statistics.median(best), "closed": statistics.median(closed) if closed else None,
        "worse_than_source_only": sum(mine < first for mine, first in zip(ours, plain, strict=True)),
        "verdicts": dict(verdicts), "chosen": dict(chosen),
        "guards": dict(Counter(guard for one in runs for guard in one["guards"])),
    }  # fmt: skip
    gap = "no gap" if told["closed"] is None else f"closed {told['closed']:.2f} of the gap"
    print(
        f"\n{gap}; verdicts {dict(verdicts)}; chosen {dict(chosen)}; guards {told['guards']}",
        flush=True,
    )
    return told


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", default="a to b,a to c,a to a")
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--mnist", type=Path, help="MNIST, as Keras keeps it (.npz)")
    parser.add_argument("--recipe", action="store_true", help="print each recipe")
    parser.add_argument("--quick", action="store_true", help="one seed, few pictures and epochs")
    arguments = parser.parse_args()
    seeds = range(1, 2 if arguments.quick else arguments.seeds + 1)
    told = {}
    for task in arguments.tasks.split(","):
        with tempfile.TemporaryDirectory() as folder:
            runs = [run_once(task, seed, Path(folder), arguments) for seed in seeds]
        told[task] = print_task(task, runs)
    print(json.dumps(told))


if __name__ == "__main__":
    main()

"""Kill a run again and again at random moments: does it end with the bytes of an uninterrupted one?

    python benchmarks/resume_soak.py [--kills 50] [--seed 0] [--out DIR]

The recipe trains small_cnn on drawn phantoms in three phases: the whole network with fresh augmentation, an average of the
weights and early stopping; the last block from a boundary cache of two augmented views; the head from cached features. A
run without a stop comes first. Then runs are started and ended by SIGKILL after a random time, drawn evenly between nothing and
a little more than a whole run takes, and resumed; one that ends by itself is compared, and the next begins anew, with
caches of its own. Compared are every array of model.keras, history.jsonl, predictions.csv, scores.json and freeze.json.

Exit code 0 where all were equal. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np

SETS = [
    "data.reader={name: phantom, patients: 24, slices_per_patient: 2, image_size_px: 48}",
    "data.image_size_px=48",
    "data.batch_size=8",
    "target=null",
    "export.formats=[]",
    "augment={operations: [{name: random_rotation, max_deg: 10}, {name: random_contrast, max_fraction: 0.2}], views: 2}",
    "phases=["
    "{name: whole, epochs: 4, learning_rate: 1e-3, trainable: all, ema: 0.95, early_stopping: 3, cache: none},"
    "{name: last, epochs: 5, learning_rate: 1e-3, trainable: {from_block: block_3}, batch_norm: frozen, cache: boundary},"
    "{name: head, epochs: 6, learning_rate: 3e-3, trainable: none, batch_norm: frozen, cache: features, schedule: cosine}]",
]
COMPARED = ("history.jsonl", "predictions.csv", "scores.json", "freeze.json")


def command(out: Path, *, resume: bool) -> list[str]:
    """Return the command line of the run."""
    sets = [word for one in SETS for word in ("--set", one)]
    words = ["quickstart", "--out", str(out), *sets, *(["--resume"] if resume else [])]
    return [sys.executable, "-m", "kerastl", "run", *words]


def digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file that is compared; of the model that of its arrays, as its archive holds a date."""
    found = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in COMPARED}
    with (
        zipfile.ZipFile(folder / "model.keras") as archive,
        tempfile.TemporaryDirectory() as scratch,
    ):
        import h5py

        archive.extract("model.weights.h5", scratch)
        digest = hashlib.sha256()
        with h5py.File(Path(scratch) / "model.weights.h5") as file:

            def take(name: str, item: object) -> None:
                if isinstance(item, h5py.Dataset):
                    digest.update(name.encode() + np.ascontiguousarray(item[()]).tobytes())

            file.visititems(take)
    return found | {"model.keras": digest.hexdigest()}


def environment(cache: Path) -> dict[str, str]:
    """Return the environment of a run with a cache of its own."""
    return os.environ | {"KERASTL_CACHE": str(cache), "TF_CPP_MIN_LOG_LEVEL": "2"}


def run_for(out: Path, cache: Path, seconds: float | None) -> bool:
    """Run, or go on with a run, for some seconds; return whether it had to be killed.

    Raises:
        SystemExit: it ended with an error.
    """
    resume = (out / "recipe.resolved.yaml").is_file()
    if not resume and out.exists():
        shutil.rmtree(out)  # killed before anything had begun: nothing to go on with
    process = subprocess.Popen(
        command(out, resume=resume), env=environment(cache),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        _, told = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return True
    if process.returncode:
        raise SystemExit(f"{told}\nthe run ended with exit code {process.returncode}")
    return False


def main() -> int:
    """Run the soak."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, help="folder for the runs, kept; without it they are removed"
    )
    arguments = parser.parse_args()
    base = arguments.out or Path(tempfile.mkdtemp(prefix="kerastl-soak-"))
    base.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    subprocess.run(
        command(base / "whole", resume=False), check=True, env=environment(base / "cache-whole"),
        capture_output=True,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    expected = digests(base / "whole")
    print(f"an uninterrupted run takes {seconds:.1f} s", flush=True)

    generator = np.random.default_rng(arguments.seed)
    kills, number, unequal, survived, before_start = 0, 1, [], 0, 0
    out, cache = base / "run-1", base / "cache-1"
    while kills < arguments.kills or not (out / "finished.json").is_file():
        # A run that goes on has less left to do; all the same it is given the whole time, so that it may end.
        wait = generator.uniform(0, 1.1 * seconds) if kills < arguments.kills else None
        killed = run_for(out, cache, wait)
        kills += killed
        before_start += killed and not (out / "recipe.resolved.yaml").is_file()
        if not (out / "finished.json").is_file():
            continue
        found = digests(out)
        wrong = sorted(name for name in expected if found[name] != expected[name])
        unequal += [{"run": number, "files": wrong}] if wrong else []
        survived += 1
        said = f"unequal: {wrong}" if wrong else "equal"
        print(f"run {number}: {kills} kills so far, {said}", flush=True)
        if kills < arguments.kills:
            number += 1
            out, cache = base / f"run-{number}", base / f"cache-{number}"
    told = {
        "kills": kills, "killed_before_the_first_file": before_start, "runs_compared": survived,
        "unequal": unequal, "seconds_of_a_run": round(seconds, 1),
    }  # fmt: skip
    if arguments.out is None:
        shutil.rmtree(base)
    print(json.dumps(told))
    return 1 if unequal else 0


if __name__ == "__main__":
    sys.exit(main())

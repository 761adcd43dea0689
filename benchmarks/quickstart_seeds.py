"""Stability of the quickstart over seeds.

    python benchmarks/quickstart_seeds.py [--quick] [--seeds 10]

For each seed, the whole quickstart runs in its own process with new phantom patients, a new split, and new initial
weights. Three properties of the AUC by patient (point estimates) must hold for 8 of 10 seeds: A's model is worse at hospital B
than at hospital A; at B, the adapted model is better than the unchanged model; and it is better than training from scratch on the
same labeled images. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

MIN_FRACTION = 0.8


def run_seed(seed: int, folder: Path) -> dict[str, Any]:
    words = [sys.executable, "-m", "kerastl", "quickstart", "--json", "--seed", str(seed)]
    done = subprocess.run(
        [*words, "--out", str(folder / str(seed))], stdout=subprocess.PIPE, text=True, check=True,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    answer = json.loads(done.stdout)
    at_a, unchanged, adapted, scratch = (row["value"] for row in answer["rows"].values())
    return {
        "seed": seed,
        "at_a": at_a,
        "unchanged": unchanged,
        "adapted": adapted,
        "scratch": scratch,
        "drop": unchanged < at_a,
        "gain": adapted > unchanged,
        "beats_scratch": adapted > scratch,
        "verified": answer["verified"],
        "seconds": answer["seconds"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="three seeds")
    arguments = parser.parse_args()
    count = 3 if arguments.quick else arguments.seeds
    rows = []
    print(" seed   A     B unchanged  adapted  scratch  seconds")
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(1, count + 1):
            row = run_seed(seed, Path(folder))
            rows.append(row)
            print(
                f"{seed:>5}  {row['at_a']:.3f}  {row['unchanged']:.3f}        {row['adapted']:.3f}"
                f"    {row['scratch']:.3f}    {row['seconds']:.0f}",
                flush=True,
            )
    medians = {
        name: round(statistics.median(row[name] for row in rows), 3)
        for name in ("at_a", "unchanged", "adapted", "scratch", "seconds")
    }
    holds = {name: sum(row[name] for row in rows) for name in ("drop", "gain", "beats_scratch", "verified")}
    print("median", medians, "holds", holds, "of", count)
    print(json.dumps({"seeds": count, "median": medians, "holds": holds}))
    return 0 if min(holds.values()) >= MIN_FRACTION * count else 1


if __name__ == "__main__":
    sys.exit(main())

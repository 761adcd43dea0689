"""Stability of the quickstart over seeds.

    python benchmarks/quickstart_seeds.py [--quick] [--seeds 10]

For each seed, the whole quickstart runs in its own process with new phantom patients, a new split, and new initial
weights. Four properties of the AUC by patient must hold for 8 of 10 seeds: A's model is worse at hospital B than at hospital A; at B,
the adapted model is better than the unchanged model, and the printed 95% interval of this gain is above 0; and the adapted model is
better than training from scratch on the same labeled images. No seed may take more than 330 CPU seconds. The last line is one JSON
object.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

MIN_FRACTION = 0.8
MAX_CPU_SECONDS = 330


def run_seed(seed: int, folder: Path) -> dict[str, Any]:
    words = [sys.executable, "-m", "kerastl", "quickstart", "--json", "--seed", str(seed)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [*words, "--out", str(folder / str(seed))], stdout=subprocess.PIPE, text=True, check=True,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer = json.loads(done.stdout)
    gain, *_ = answer["differences"].values()
    at_a, unchanged, adapted, scratch = (row["value"] for row in answer["rows"].values())
    return {
        "seed": seed,
        "at_a": at_a,
        "unchanged": unchanged,
        "adapted": adapted,
        "scratch": scratch,
        "drop": unchanged < at_a,
        "gain": adapted - unchanged,
        "better": adapted > unchanged,
        "gain_interval": (gain["low"], gain["high"]),
        "certain_gain": gain["outcome"] == "better",
        "beats_scratch": adapted > scratch,
        "verified": answer["verified"],
        "seconds": answer["seconds"],
        "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="three seeds")
    arguments = parser.parse_args()
    count = 3 if arguments.quick else arguments.seeds
    rows = []
    print(" seed   A     B unchanged  adapted  scratch  gain (95% interval)  CPU seconds")
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(1, count + 1):
            row = run_seed(seed, Path(folder))
            rows.append(row)
            print(
                f"{seed:>5}  {row['at_a']:.3f}  {row['unchanged']:.3f}        {row['adapted']:.3f}"
                f"    {row['scratch']:.3f}    {row['gain_interval'][0]:.3f} to {row['gain_interval'][1]:.3f}"
                f"    {row['cpu_seconds']:.0f}",
                flush=True,
            )
    medians = {
        name: round(statistics.median(row[name] for row in rows), 3)
        for name in ("at_a", "unchanged", "adapted", "scratch", "gain", "seconds", "cpu_seconds")
    }
    properties = ("drop", "better", "certain_gain", "beats_scratch", "verified")
    holds = {name: sum(row[name] for row in rows) for name in properties}
    print("median", medians, "holds", holds, "of", count)
    print(json.dumps({"seeds": count, "median": medians, "holds": holds}))
    is_fast = max(row["cpu_seconds"] for row in rows) <= MAX_CPU_SECONDS
    return 0 if min(holds.values()) >= MIN_FRACTION * count and is_fast else 1


if __name__ == "__main__":
    sys.exit(main())

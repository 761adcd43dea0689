"""Gain of augmentation with few training images.

    python benchmarks/augmentation_gain.py [--quick] [--seeds 5] [--policies none,radiograph,medium] [--table labels.csv]

Trains from random weights on few images. All policies use the same images, initial weights and number of steps; only
`augment` differs. The images are phantom hospital A, or those of a table with the columns file, projection
and patient_id: the Hannover chest X-rays (doi 10.25835/0090041). The AUC by image on the test patients (85 % of all) is reported,
and for each policy the difference from the first policy per seed. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

PATIENTS = 160
SETTINGS = (
    "target=null",
    "data.split.val_fraction=0.0",
    "data.split.test_fraction=0.85",
    "phases=[{name: all, epochs: 30, learning_rate: 1e-3, trainable: all, batch_norm: trainable, "
    "schedule: cosine, keep: last}]",
    "export.formats=[]",
)


def reader_settings(table: str | None) -> tuple[str, ...]:
    if table is None:
        return (f"data.reader={{name: phantom, hospital: a, patients: {PATIENTS}}}",)
    columns = "{path: file, label: projection, group: patient_id}"
    reader = f"data.reader={{name: table, path: {table}, columns: {columns}}}"
    return reader, "data.image_size_px=64", "data.batch_size=16"


def run_and_read_auc(policy: str, seed: int, folder: Path, table: str | None) -> float:
    out = folder / f"{policy}-{seed}"
    words = [sys.executable, "-m", "kerastl", "run", "quickstart", "--out", str(out)]
    for setting in (*reader_settings(table), *SETTINGS, f"augment.policy={policy}", f"seed={seed}"):
        words += ["--set", setting]
    subprocess.run(words, check=True, capture_output=True)
    scores = json.loads((out / "scores.json").read_text())
    return float(scores["test"]["overall"]["auc"]["value"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--policies", default="none,radiograph,medium")
    parser.add_argument("--table", help="table of chest X-rays instead of phantoms")
    parser.add_argument("--quick", action="store_true", help="two seeds")
    arguments = parser.parse_args()
    policies = arguments.policies.split(",")
    seeds = range(1, (2 if arguments.quick else arguments.seeds) + 1)
    aucs: dict[str, list[float]] = {policy: [] for policy in policies}
    print("seed  " + "  ".join(f"{policy:>10}" for policy in policies))
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            for policy in policies:
                aucs[policy].append(run_and_read_auc(policy, seed, Path(folder), arguments.table))
            row = "  ".join(f"{aucs[policy][-1]:>10.3f}" for policy in policies)
            print(f"{seed:>4}  {row}", flush=True)
    totals = {}
    for policy, values in aucs.items():
        gains = [value - without for value, without in zip(values, aucs[policies[0]], strict=True)]
        totals[policy] = {
            "median_auc": round(statistics.median(values), 3),
            "mean_gain": round(statistics.mean(gains), 3),
            "better": sum(gain > 0 for gain in gains),
        }
        print(policy, totals[policy])
    print(json.dumps({"seeds": len(seeds), "policies": totals}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

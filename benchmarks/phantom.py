"""Time to generate phantom slices: `python benchmarks/phantom.py [--quick]`. Target: 600 slices in 60 s on 2 cores."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from kerastl.data import write_phantoms

TARGET_S = 60.0
SLICES_PER_PATIENT = 5


def main() -> None:
    num_slices = 100 if "--quick" in sys.argv else 600
    results = {}
    print(f"{'region':8} {'slices':>6} {'wall s':>8} {'CPU s':>8} {'slices/s':>9}")
    for region in ("lung", "head"):
        folder = Path(tempfile.mkdtemp())
        wall, cpu = time.perf_counter(), time.process_time()
        write_phantoms(
            folder / "a",
            hospital="a",
            patients=num_slices // SLICES_PER_PATIENT,
            seed=1,
            slices_per_patient=SLICES_PER_PATIENT,
            image_size_px=128,
            region=region,
        )
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        shutil.rmtree(folder)
        print(f"{region:8} {num_slices:6d} {wall:8.1f} {cpu:8.1f} {num_slices / wall:9.1f}")
        results[region] = {
            "wall_s_for_600": wall * 600 / num_slices,
            "cpu_s_for_600": cpu * 600 / num_slices,
            "share_of_target": wall * 600 / num_slices / TARGET_S,
        }
    print(json.dumps(results))


if __name__ == "__main__":
    main()

"""What every peer of the augmentation benchmark shares: one process that waits, and times a burst when asked.

The process gets a folder of images, warms up, and says so in a line of JSON. From then on each line on its
input, `SIZE SECONDS`, is answered by a line of JSON with the number of images, the seconds they took, and the seconds
of processor time, its worker processes' included. Between
lines it is blocked and costs nothing. Only the standard library and NumPy: it runs in each peer's environment.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

BATCH_SIZE = 32
UNTIMED_BATCHES = 4
"""A pipeline's first batches are made while nobody takes any; two workers hold four of them."""
UNTIMED_S = 0.5
"""tf.data finds its number of parallel calls in this time."""

StreamFactory = Callable[[], Iterator[Any]]


def serve(
    make_stream: Callable[[np.ndarray], StreamFactory], *, packages: tuple[str, ...], yields: str
) -> None:
    """Time bursts until the input ends.

    Args:
        begin_for: takes images `[count, size, size, 3]` uint8 and returns a function that begins an endless
            stream of augmented batches of 32, from a pipeline that was not running before.
        packages: whose versions to tell.
        yields: what a batch is, in words.
    """
    # Libraries print what they like; the answers have the standard output for themselves.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    factories = {}
    for file in sorted(Path(sys.argv[1]).glob("*.npy")):
        factories[file.stem] = make_stream(np.load(file))
        burst(factories[file.stem], UNTIMED_S)
    description = {"versions": {name: version(name) for name in packages}, "yields": yields}
    print(json.dumps(description), file=answers, flush=True)
    for line in sys.stdin:
        size, seconds = line.split()
        print(json.dumps(burst(factories[size], float(seconds))), file=answers, flush=True)


def burst(start_stream: StreamFactory, seconds: float) -> dict[str, float]:
    """Return how many `images` came in how many `seconds` and `cpu_seconds`.

    The first batches are not timed. From then on the consumer always waits, so no batch that was made before
    the clock started is counted twice, and none that was made is left out.
    """
    batches = start_stream()
    started, untimed = time.perf_counter(), 0
    while untimed < UNTIMED_BATCHES or time.perf_counter() - started < UNTIMED_S:
        next(batches)
        untimed += 1
    images, started, taken, cpu_start = 0, time.perf_counter(), 0.0, cpu_seconds()
    while taken < seconds:
        images += len(next(batches))
        taken = time.perf_counter() - started
    return {"images": images, "seconds": taken, "cpu_seconds": cpu_seconds() - cpu_start}


def cpu_seconds() -> float:
    """Return the processor time of this process and, on Linux, of its living worker processes."""
    total = time.process_time()
    for worker in multiprocessing.active_children():
        file = Path(f"/proc/{worker.pid}/stat")
        if file.is_file():
            # After the name in brackets, which may hold anything: user and system time are fields 14 and 15.
            fields = file.read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total

"""The process of a peer in the augmentation benchmark: it waits for requests, and times one burst per request.

The process loads a folder of images, warms up, and prints a line of JSON. Then each input line, `SIZE SECONDS`, is answered
by a line of JSON with the number of images, the duration, and the CPU seconds including worker processes. Between
requests the process is idle. Imports only the standard library and NumPy, because it runs in the environment of each peer.
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
"""Batches that a pipeline may have prefetched: two workers hold four."""
UNTIMED_S = 0.5
"""tf.data tunes its number of parallel calls in this time."""

StreamFactory = Callable[[], Iterator[Any]]


def serve(
    make_stream: Callable[[np.ndarray], StreamFactory], *, packages: tuple[str, ...], yields: str
) -> None:
    """Time bursts until the end of the input.

    Args:
        make_stream: Takes images `[count, size, size, 3]`, uint8, and returns a function that starts an endless
            stream of augmented batches of 32 images from a new pipeline.
        packages: Packages to report the versions of.
        yields: Data type of the batches.
    """
    # Libraries may print to stdout. Reserve it for the responses.
    responses = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    factories = {}
    for file in sorted(Path(sys.argv[1]).glob("*.npy")):
        factories[file.stem] = make_stream(np.load(file))
        burst(factories[file.stem], UNTIMED_S)
    description = {"versions": {name: version(name) for name in packages}, "yields": yields}
    print(json.dumps(description), file=responses, flush=True)
    for line in sys.stdin:
        size, seconds = line.split()
        print(json.dumps(burst(factories[size], float(seconds))), file=responses, flush=True)


def burst(start_stream: StreamFactory, seconds: float) -> dict[str, float]:
    """Return the number of `images`, and the `seconds` and `cpu_seconds` that they took.

    The first batches are not timed. The consumer then always waits for the next batch, so batches that were prepared before
    the timer started are not counted twice.
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
    """Return the CPU seconds of this process and, on Linux, of its running worker processes."""
    total = time.process_time()
    for worker in multiprocessing.active_children():
        file = Path(f"/proc/{worker.pid}/stat")
        if file.is_file():
            # The name in parentheses may contain spaces. User and system time are fields 14 and 15.
            fields = file.read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total

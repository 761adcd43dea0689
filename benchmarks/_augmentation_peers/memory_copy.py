"""The memory bound: float32 batches are read once and written once, with one thread per core.

The batches take more memory than any cache, so each read and write goes to main memory.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from bursts import BATCH_SIZE, StreamFactory, serve

MEMORY_BYTES = 2**29


def make_stream(images: np.ndarray) -> StreamFactory:
    batch = np.resize(images, (BATCH_SIZE, *images.shape[1:])).astype(np.float32)
    count = max(2, MEMORY_BYTES // batch.nbytes // 2)
    read, written = np.stack([batch] * count), np.stack([batch] * count)
    cores = len(os.sched_getaffinity(0))
    pool = ThreadPoolExecutor(cores)
    parts = np.array_split(np.arange(BATCH_SIZE), cores)
    rows = [slice(part[0], part[-1] + 1) for part in parts]

    def batches():
        while True:
            for index in range(count):
                to, source = written[index], read[index]
                list(pool.map(np.copyto, [to[row] for row in rows], [source[row] for row in rows]))
                yield to

    return batches


if __name__ == "__main__":
    serve(make_stream, packages=("numpy",), yields="float32")

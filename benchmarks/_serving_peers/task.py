"""What every peer is asked, and how it answers. Standard library and Pillow alone: peers have environments of their own."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Task:
    """Requests to one model.

    Args:
        saved_model: what Keras's own `model.export()` wrote: images to logits.
        images: JPEG files.
        size: side of the square image that the model takes.
        batches: how many images in a request, one measurement each.
        warm_up: requests before time is taken.
        requests: timed ones by batch.
        scratch: for converted models.
    """

    saved_model: str
    images: list[str]
    size: int
    batches: list[int]
    warm_up: int
    requests: dict[str, int]
    scratch: Path

    @classmethod
    def parse(cls, words: list[str]) -> Task:
        """Read the task from the one word that a peer is handed."""
        settings = json.loads(words[0])
        return cls(**settings | {"scratch": Path(settings["scratch"])})


def decode_with_pillow(content: bytes, size: int) -> Any:
    """Return `[size, size, 3]` float32 in [0, 255] by Pillow, as `keras.utils.load_img` does it when told bilinear."""
    import numpy as np
    from PIL import Image

    image = Image.open(io.BytesIO(content)).convert("RGB")
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR), np.float32)


def make_batch(contents: Sequence[bytes], count: int) -> list[bytes]:
    """Return so many images, over and over where there are fewer."""
    return [contents[index % len(contents)] for index in range(count)]


def measure(task: Task, infer: Callable[[Any], Any]) -> None:
    """Time bytes to answer, and print it as JSON: `{"nanoseconds": {batch: [...]}, "logits": [[...]]}`.

    Args:
        task: what to ask.
        infer: `[n, size, size, 3]` float32 to logits `[n, classes]`.
    """
    import numpy as np

    contents = [Path(name).read_bytes() for name in task.images]

    def answer(request: Sequence[bytes]) -> Any:
        return infer(np.stack([decode_with_pillow(content, task.size) for content in request]))

    durations: dict[int, list[int]] = {}
    for count in task.batches:
        request = make_batch(contents, count)
        for _ in range(task.warm_up):
            answer(request)
        durations[count] = []
        for _ in range(task.requests[str(count)]):
            started = time.perf_counter_ns()
            answer(request)
            durations[count].append(time.perf_counter_ns() - started)
    logits = np.asarray(answer(contents)).tolist()
    print(json.dumps({"nanoseconds": durations, "logits": logits}))

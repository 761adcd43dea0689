"""Task and output format of the serving peers. Standard library and Pillow only, because each peer has its own environment."""

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
        saved_model: The output of `model.export()` of Keras: images to logits.
        images: JPEG files.
        size: Height and width of the model's input, in pixels.
        batches: Images per request. Each is measured separately.
        warm_up: Number of untimed requests.
        requests: Number of timed requests by batch size.
        scratch: Folder for converted models.
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
        """Read the task from the first command-line argument, a JSON object."""
        settings = json.loads(words[0])
        return cls(**settings | {"scratch": Path(settings["scratch"])})


def decode_with_pillow(content: bytes, size: int) -> Any:
    """Return `[size, size, 3]`, float32 in [0, 255], decoded by Pillow as in `keras.utils.load_img` with bilinear interpolation."""
    import numpy as np
    from PIL import Image

    image = Image.open(io.BytesIO(content)).convert("RGB")
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR), np.float32)


def make_batch(contents: Sequence[bytes], count: int) -> list[bytes]:
    """Return `count` images, repeated if there are fewer."""
    return [contents[index % len(contents)] for index in range(count)]


def measure(task: Task, infer: Callable[[Any], Any]) -> None:
    """Time requests from file bytes to logits, and print JSON: `{"nanoseconds": {batch: [...]}, "logits": [[...]]}`.

    Args:
        task: The task.
        infer: Function from images `[n, size, size, 3]`, float32, to logits `[n, classes]`.
    """
    import numpy as np

    contents = [Path(name).read_bytes() for name in task.images]

    def predict(request: Sequence[bytes]) -> Any:
        return infer(np.stack([decode_with_pillow(content, task.size) for content in request]))

    durations: dict[int, list[int]] = {}
    for count in task.batches:
        request = make_batch(contents, count)
        for _ in range(task.warm_up):
            predict(request)
        durations[count] = []
        for _ in range(task.requests[str(count)]):
            started = time.perf_counter_ns()
            predict(request)
            durations[count].append(time.perf_counter_ns() - started)
    logits = np.asarray(predict(contents)).tolist()
    print(json.dumps({"nanoseconds": durations, "logits": logits}))

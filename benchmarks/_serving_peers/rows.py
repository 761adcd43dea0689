"""One row of the benchmark, one round: how each way of answering is asked."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _serving_peers.models import SIZE_PX
from _serving_peers.task import batch_of, decoded
from peer_environments import Unavailable, last_line, python_of

Array = np.ndarray[Any, Any]
HERE = Path(__file__).parent
OURS = {"kerastl": "folded", "kerastl-unfolded": "unfolded", "kerastl-bfloat16": "bfloat16"}
PEERS = {"openvino": "with_openvino.py", "onnxruntime": "with_onnxruntime.py"}
PLAIN = "keras"
ROWS = (PLAIN, "keras-tf", *OURS, *PEERS)
WARM_UP = 3


@dataclass(frozen=True)
class Measured:
    """One row, one round.

    Args:
        nanoseconds: of each request, by batch.
        probabilities: `[images, classes]`.
    """

    nanoseconds: dict[int, list[int]]
    probabilities: Array


@dataclass(frozen=True)
class Setting:
    """What all rows share.

    Args:
        models: folders of exports, by name.
        images: JPEG files.
        batches: how many images in a request.
        requests: timed ones in a round, by batch.
        threads: of TensorFlow's session, within and between operations; 0: its own choice.
        scratch: for converted models.
    """

    models: dict[str, Path]
    images: list[Path]
    batches: list[int]
    requests: dict[int, int]
    threads: int
    scratch: Path

    @property
    def contents(self) -> list[bytes]:
        """The files."""
        return [path.read_bytes() for path in self.images]


def ask_ours(setting: Setting, name: str) -> Measured:
    contents = setting.contents
    outputs = ("probabilities",)
    with opened(setting, OURS[name]) as session:
        nanoseconds = {}
        for count in setting.batches:
            request = {"image_bytes": batch_of(contents, count)}
            nanoseconds[count] = timed_calls(session, request, outputs, setting.requests[count])
        found = session.run("serving_default", {"image_bytes": contents}, outputs)
    return Measured(nanoseconds, found["probabilities"])


def ask_keras(setting: Setting, decode: Callable[[bytes, int], Array]) -> Measured:
    contents = setting.contents
    with opened(setting, "keras") as session:
        nanoseconds = {}
        for count in setting.batches:
            repeats = setting.requests[count]
            images, before = timed(decode, batch_of(contents, count), repeats)
            calls = timed_calls(session, {"image": images}, None, repeats)
            nanoseconds[count] = [one + other for one, other in zip(before, calls, strict=True)]
        images = np.stack([decode(content, SIZE_PX) for content in contents])
        (logits,) = session.run("serving_default", {"image": images}).values()
    return Measured(nanoseconds, softmax(logits))


def timed(
    decode: Callable[[bytes, int], Array], request: Sequence[bytes], repeats: int
) -> tuple[Array, list[int]]:
    """Decode a request again and again; return the images, and nanoseconds."""
    taken = []
    for number in range(WARM_UP + repeats):
        begun = time.perf_counter_ns()
        images = np.stack([decode(content, SIZE_PX) for content in request])
        if number >= WARM_UP:
            taken.append(time.perf_counter_ns() - begun)
    return images, taken


def opened(setting: Setting, model: str) -> Any:
    """Return a TensorFlow session with an export, the runtime that TensorFlow Serving uses."""
    from kerastl.export._probe import ServingSession

    return ServingSession(setting.models[model], threads=setting.threads)


def timed_calls(
    session: Any, request: dict[str, Any], outputs: Sequence[str] | None, repeats: int
) -> list[int]:
    """Send a request again and again; return nanoseconds."""
    taken = []
    for number in range(WARM_UP + repeats):
        begun = time.perf_counter_ns()
        session.run("serving_default", request, outputs)
        if number >= WARM_UP:
            taken.append(time.perf_counter_ns() - begun)
    return taken


def by_tensorflow(content: bytes, size: int) -> Array:
    """Return `[size, size, 3]` float32 in [0, 255], as `image_dataset_from_directory` does it."""
    import tensorflow as tf

    image = tf.io.decode_image(content, channels=3, expand_animations=False)
    return np.asarray(tf.image.resize(image, [size, size], "bilinear"))


def ask_peer(setting: Setting, name: str) -> Measured:
    """Run a peer in an environment and a process of its own.

    Raises:
        Unavailable: it cannot be run.
    """
    task = {
        "saved_model": str(setting.models["keras"]), "images": list(map(str, setting.images)),
        "size": SIZE_PX, "batches": setting.batches, "warm_up": WARM_UP,
        "requests": {str(count): number for count, number in setting.requests.items()},
        "scratch": str(setting.scratch),
    }  # fmt: skip
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [python_of(name), HERE / PEERS[name], json.dumps(task)],
        capture_output=True, text=True, env=environment | {"TF_CPP_MIN_LOG_LEVEL": "2"},
    )  # fmt: skip
    if done.returncode:
        raise Unavailable(f"{name} ended with {done.returncode}: {last_line(done.stderr)}")
    told = json.loads(done.stdout.strip().splitlines()[-1])
    nanoseconds = {int(count): taken for count, taken in told["nanoseconds"].items()}
    return Measured(nanoseconds, softmax(np.asarray(told["logits"])))


def ask_row(setting: Setting, name: str) -> Measured:
    if name in OURS:
        return ask_ours(setting, name)
    if name in PEERS:
        return ask_peer(setting, name)
    return ask_keras(setting, decoded if name == PLAIN else by_tensorflow)


def softmax(logits: Array) -> Array:
    powers = np.exp(np.asarray(logits, np.float64) - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)

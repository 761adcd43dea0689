"""Measure one row of the serving benchmark in one round."""

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
from _serving_peers.task import decode_with_pillow, make_batch
from peer_environments import Unavailable, last_line, python_of

Array = np.ndarray[Any, Any]
HERE = Path(__file__).parent
OURS = {"kerastl": "folded", "kerastl-unfolded": "unfolded", "kerastl-bfloat16": "bfloat16"}
PEERS = {"openvino": "with_openvino.py", "onnxruntime": "with_onnxruntime.py"}
BASELINE = "keras"
ROWS = (BASELINE, "keras-tf", *OURS, *PEERS)
WARM_UP = 3


@dataclass(frozen=True)
class Measured:
    """The measurements of one row in one round.

    Args:
        nanoseconds: Duration of each request by batch size.
        probabilities: `[images, classes]`.
    """

    nanoseconds: dict[int, list[int]]
    probabilities: Array


@dataclass(frozen=True)
class Setting:
    """The settings shared by all rows.

    Args:
        models: Folders of exports by name.
        images: JPEG files.
        batches: Images per request.
        requests: Timed requests per round by batch size.
        threads: Intra-op and inter-op threads of TensorFlow. 0: the default of TensorFlow.
        scratch: Folder for converted models.
    """

    models: dict[str, Path]
    images: list[Path]
    batches: list[int]
    requests: dict[int, int]
    threads: int
    scratch: Path

    @property
    def contents(self) -> list[bytes]:
        """Contents of the image files."""
        return [path.read_bytes() for path in self.images]


def measure_kerastl(setting: Setting, name: str) -> Measured:
    contents = setting.contents
    outputs = ("probabilities",)
    with open_session(setting, OURS[name]) as session:
        nanoseconds = {}
        for count in setting.batches:
            request = {"image_bytes": make_batch(contents, count)}
            nanoseconds[count] = time_requests(session, request, outputs, setting.requests[count])
        predictions = session.run("serving_default", {"image_bytes": contents}, outputs)
    return Measured(nanoseconds, predictions["probabilities"])


def measure_keras(setting: Setting, decode: Callable[[bytes, int], Array]) -> Measured:
    contents = setting.contents
    with open_session(setting, "keras") as session:
        nanoseconds = {}
        for count in setting.batches:
            repeats = setting.requests[count]
            images, before = time_decoding(decode, make_batch(contents, count), repeats)
            calls = time_requests(session, {"image": images}, None, repeats)
            nanoseconds[count] = [
                decoding + inference for decoding, inference in zip(before, calls, strict=True)
            ]
        images = np.stack([decode(content, SIZE_PX) for content in contents])
        (logits,) = session.run("serving_default", {"image": images}).values()
    return Measured(nanoseconds, softmax(logits))


def time_decoding(
    decode: Callable[[bytes, int], Array], request: Sequence[bytes], repeats: int
) -> tuple[Array, list[int]]:
    """Decode a request repeatedly. Return the images and the durations in nanoseconds."""
    durations = []
    for number in range(WARM_UP + repeats):
        started = time.perf_counter_ns()
        images = np.stack([decode(content, SIZE_PX) for content in request])
        if number >= WARM_UP:
            durations.append(time.perf_counter_ns() - started)
    return images, durations


def open_session(setting: Setting, model: str) -> Any:
    """Return a TensorFlow session of an export, the runtime of TensorFlow Serving."""
    from kerastl.export._probe import ServingSession

    return ServingSession(setting.models[model], threads=setting.threads)


def time_requests(
    session: Any, request: dict[str, Any], outputs: Sequence[str] | None, repeats: int
) -> list[int]:
    """Send a request repeatedly. Return the durations in nanoseconds."""
    durations = []
    for number in range(WARM_UP + repeats):
        started = time.perf_counter_ns()
        session.run("serving_default", request, outputs)
        if number >= WARM_UP:
            durations.append(time.perf_counter_ns() - started)
    return durations


def decode_with_tensorflow(content: bytes, size: int) -> Array:
    """Return `[size, size, 3]`, float32 in [0, 255], decoded as in `image_dataset_from_directory`."""
    import tensorflow as tf

    image = tf.io.decode_image(content, channels=3, expand_animations=False)
    return np.asarray(tf.image.resize(image, [size, size], "bilinear"))


def measure_peer(setting: Setting, name: str) -> Measured:
    """Run a peer in its own environment and process.

    Raises:
        Unavailable: The peer failed.
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
    output = json.loads(done.stdout.strip().splitlines()[-1])
    nanoseconds = {int(count): durations for count, durations in output["nanoseconds"].items()}
    return Measured(nanoseconds, softmax(np.asarray(output["logits"])))


def measure_row(setting: Setting, name: str) -> Measured:
    if name in OURS:
        return measure_kerastl(setting, name)
    if name in PEERS:
        return measure_peer(setting, name)
    return measure_keras(setting, decode_with_pillow if name == BASELINE else decode_with_tensorflow)


def softmax(logits: Array) -> Array:
    powers = np.exp(np.asarray(logits, np.float64) - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)

"""Write the files for running a server, next to the versions of an export, and the warm-up requests.

A file that was modified after it was written is kept; the others are updated with each version.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from kerastl.export.graph_check import DEFAULT_SIGNATURE, put_image, served_signatures
from kerastl.export.model_card import SERVER_IMAGE, TEMPLATES, template_environment
from kerastl.image_size import Size
from kerastl.recipe import MODEL_NAME
from kerastl.runs import sha256_of, write_atomic, write_json

MAX_BATCH_SIZE = 32
MAX_BATCH_PIXELS = MAX_BATCH_SIZE * 320 * 320
"""With more, the activations of a large network would not fit the memory limit of the server."""


def batch_sizes(image_size_px: Size) -> tuple[int, ...]:
    """Return the batch sizes of a server: powers of two from 1 to at most 32.

    Args:
        image_size_px: (height, width) of the input image in pixels.
    """
    sizes = [2**power for power in range(MAX_BATCH_SIZE.bit_length())]
    return tuple(size for size in sizes if size == 1 or size * math.prod(image_size_px) <= MAX_BATCH_PIXELS)


HASHES = ".written.json"
"""sha256 of each file as it was written; hidden and not a number, so that a server ignores it."""
NUM_CPUS = 2
"""Default number of processor cores of a server."""


def write_serving_files(
    out: Path, *, class_names: Sequence[str], image_size_px: Size, model_name: str = MODEL_NAME
) -> None:
    """Write every file of `templates/` into the folder of all versions, except those that were modified.

    Args:
        out: The folder of all versions.
        class_names: Class names of the newest version.
        image_size_px: (height, width) of the images of the newest version.
        model_name: Name of the model on the server.

    Raises:
        OSError: The disk is full or the folder cannot be written; no partial file remains.
    """
    write_unless_modified(out, _render_files(class_names, image_size_px, model_name))


def write_unless_modified(out: Path, files: Mapping[str, bytes]) -> None:
    """Write files into the folder of all versions, except those that were modified.

    Raises:
        OSError: The disk is full or the folder cannot be written; no partial file remains.
    """
    before = _read_hashes(out)
    hashes = dict(before)
    for name, content in files.items():
        file, digest = out / name, hashlib.sha256(content).hexdigest()
        present = _hash_of(file)
        if present in ("", digest, before.get(name, digest)):
            if present != digest:
                write_atomic(file, content)
            hashes[name] = digest
    if hashes != before or not (out / HASHES).is_file():
        write_json(out / HASHES, hashes)


def modified_serving_files(out: Path) -> list[str]:
    """Return the names of the files that were modified after they were written, and are therefore no longer updated."""
    if not (out / HASHES).is_file():
        return []
    hashes = _read_hashes(out)
    names = sorted({*_names(), *hashes})
    return [name for name in names if _hash_of(out / name) not in ("", hashes.get(name, ""))]


def _hash_of(file: Path) -> str | None:
    """Return the sha256 of a file, "" if there is none, and None for a link or a folder, which kerastl did not write."""
    if file.is_file() and not file.is_symlink():
        return sha256_of(file)
    return None if file.exists() or file.is_symlink() else ""


def _names() -> list[str]:
    return sorted(file.name.removesuffix(".jinja") for file in TEMPLATES.glob("*.jinja"))


def _render_files(class_names: Sequence[str], image_size_px: Size, model_name: str) -> dict[str, bytes]:
    environment = template_environment()
    values = {
        "model_name": model_name,
        "server_image": SERVER_IMAGE,
        "image_size_px": image_size_px,
        "class_names": list(class_names),
        "num_classes": len(class_names),
        "batch_sizes": batch_sizes(image_size_px),
        "num_cpus": NUM_CPUS,
    }
    return {
        name: environment.get_template(f"{name}.jinja").render(values).encode("utf-8", "replace")
        for name in _names()
    }


def _read_hashes(out: Path) -> dict[str, str]:
    """Return the hashes of the files as written; empty if missing or damaged, so that every file that differs is kept."""
    try:
        return dict(json.loads((out / HASHES).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


WARM_UP = "assets.extra/tf_serving_warmup_requests"
GRAY_LEVEL = 128.0


def write_warm_up(
    folder: Path, *, image_size_px: Size, max_pixels: int, model_name: str = MODEL_NAME
) -> None:
    """Write one warm-up request for each signature of a SavedModel, and for `serving_default` one for each batch size.

    The one-time cost of a batch size (oneDNN prepares its primitives by shape) is paid per process, so one
    signature warms the sizes for all; each signature has a graph of its own, so each is called once.

    Args:
        folder: The folder that contains `saved_model.pb`.
        image_size_px: (height, width) of the input image in pixels.
        max_pixels: Maximum height times width of an image that is decoded.
        model_name: Name of the model on the server.

    Raises:
        OSError: The disk is full.
    """
    height, width = (min(side, math.isqrt(max_pixels)) for side in image_size_px)
    file = folder / WARM_UP
    file.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for log in _logs(served_signatures(folder), synthetic_image((height, width)), image_size_px):
            request = getattr(log, log.WhichOneof("log_type")).request
            request.model_spec.name = model_name
            writer.write(log.SerializeToString(deterministic=True))


def synthetic_image(size: Size) -> bytes:
    """Return an RGB PNG of a size: a color gradient."""
    import numpy as np
    from PIL import Image

    height, width = size
    down, across = np.mgrid[0:height, 0:width] * 255 // np.reshape(size, (2, 1, 1))
    file = io.BytesIO()
    Image.fromarray(np.stack([across, down, 255 - across], axis=-1).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def _logs(signatures: Mapping[str, Any], image: bytes, image_size_px: Size) -> Iterator[Any]:
    # One value for all pixels saves megabytes.
    gray_image = tf.make_tensor_proto(GRAY_LEVEL, tf.float32, shape=[1, *image_size_px, 3])
    for name, signature in sorted(signatures.items()):
        sizes = batch_sizes(image_size_px) if name == DEFAULT_SIGNATURE else (1,)
        for input_name, size in product(signature.inputs, sizes):
            log = prediction_log_pb2.PredictionLog()
            if input_name == "inputs":
                request = log.classify_log.request
                put_image(request.input.example_list.examples.add(), image)
            else:
                files = tf.make_tensor_proto([image] * size, tf.string, shape=[size])
                request = log.predict_log.request
                tensor = gray_image if input_name == "images" else files
                request.inputs[input_name].CopyFrom(tensor)
            request.model_spec.signature_name = name
            yield log

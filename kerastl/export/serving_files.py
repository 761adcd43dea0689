"""Write what stands beside the numbered versions: the server's settings, a client, how to start. No TensorFlow.

A file that a person changed is theirs and stays; one that lies as it was written is renewed.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import prediction_log_pb2

from kerastl.export.graph_check import put_image, served_signatures
from kerastl.export.model_card import MODEL_NAME, SERVER_IMAGE, Facts, environment, write_card
from kerastl.runs import write_atomic, write_json

MOST_IMAGES = 32
MOST_PIXELS = MOST_IMAGES * 320 * 320
"""Pixels of a batch. Beyond, the activations of a large network would not fit the memory that the server is given."""


def batch_sizes(image_size_px: int) -> tuple[int, ...]:
    """Return the sizes that a server brings its batches to: powers of two from 1 on, 32 at most.

    Args:
        image_size_px: side of the square image that the model sees, in pixels.
    """
    sizes = [1]
    while 2 * sizes[-1] <= MOST_IMAGES and 2 * sizes[-1] * image_size_px**2 <= MOST_PIXELS:
        sizes.append(2 * sizes[-1])
    return tuple(sizes)


RECORD = ".written.json"
"""sha256 of each file as it was written last; hidden, and no number, so that a server passes it over."""
NUM_CPUS = 2
"""Processor cores that a server is given unless told otherwise."""


def write_beside(out: Path, *, class_names: Sequence[str], image_size_px: int) -> None:
    """Write every file of `templates/` into the folder of all versions, but those that a person changed.

    Args:
        out: the folder that a server is pointed at.
        class_names, image_size_px: of the version that was written last.

    Raises:
        OSError: the disk is full or the folder cannot be written; a file is written whole or not at all.
    """
    written = _read_record(out)
    told = dict(written)
    for name, content in _rendered(class_names, image_size_px).items():
        wanted = _sha256(content)
        if not _is_free(out / name, written.get(name), wanted):
            continue
        if not _lies_as(out / name, wanted):
            write_atomic(out / name, content)
        told[name] = wanted
    if told != written or not (out / RECORD).is_file():
        write_json(out / RECORD, told)


def changed_beside(out: Path) -> list[str]:
    """Return the names of the files beside the versions that a person changed: they are no longer renewed.

    Where nothing was ever written beside the versions, there are none.
    """
    if not (out / RECORD).is_file():
        return []
    written = _read_record(out)
    return [name for name in _names() if _stands(out / name) and not _lies_as(out / name, written.get(name))]


def _is_free(file: Path, written: str | None, wanted: str) -> bool:
    """Tell whether a file may be written: it is not there, or lies as it was written."""
    return not _stands(file) or _lies_as(file, written, wanted)


def _stands(file: Path) -> bool:
    """Tell whether there is anything of that name, also a link that leads nowhere."""
    return file.exists() or file.is_symlink()


def _lies_as(file: Path, *digests: str | None) -> bool:
    """Tell whether a plain file has one of these sha256; a link or a folder has none, as it is no work of ours."""
    if file.is_symlink() or not file.is_file():
        return False
    return _sha256(file.read_bytes()) in digests


def _names() -> list[str]:
    found = environment().list_templates(filter_func=_is_beside)
    return sorted(name.removesuffix(".jinja") for name in found)


def _is_beside(template: str) -> bool:
    return template.endswith(".jinja") and "/" not in template


def _rendered(class_names: Sequence[str], image_size_px: int) -> dict[str, bytes]:
    loaded = environment()
    told = {
        "model_name": MODEL_NAME,
        "server_image": SERVER_IMAGE,
        "image_size_px": image_size_px,
        "class_names": list(class_names),
        "num_classes": len(class_names),
        "batch_sizes": batch_sizes(image_size_px),
        "num_cpus": NUM_CPUS,
    }
    return {
        name: loaded.get_template(f"{name}.jinja").render(told).encode("utf-8", "replace")
        for name in _names()
    }


def _read_record(out: Path) -> dict[str, str]:
    """Return what was written; nothing where the record is missing or damaged: then all that differs stays."""
    try:
        content = json.loads((out / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    known = content if isinstance(content, dict) else {}
    return {str(name): str(digest) for name, digest in known.items()}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


WARM_UP = "assets.extra/tf_serving_warmup_requests"
BY_DEFAULT = "serving_default"
GREY_LEVEL = 128.0


def write_warm_up(folder: Path, *, image_size_px: int, max_pixels: int) -> None:
    """Write a request for each signature of a SavedModel, and one for each batch size to `serving_default`.

    What a size costs the first time (oneDNN prepares its primitives by shape) is kept for the whole process, so one
    signature warms the sizes for all; each has a graph of its own, so each is asked once.

    Args:
        folder: that holds `saved_model.pb`.
        image_size_px: side of the square image that the model sees, in pixels.
        max_pixels: height times width above which the model refuses an image.

    Raises:
        OSError: the disk is full.
    """
    side = min(image_size_px, math.isqrt(max_pixels))
    file = folder / WARM_UP
    file.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for log in _logs(served_signatures(folder) or {}, drawn_image(side), image_size_px):
            writer.write(log.SerializeToString(deterministic=True))


def drawn_image(side_px: int) -> bytes:
    """Return a PNG of `side_px` x `side_px` pixels in three colours: a slope with a disc on it."""
    import numpy as np
    from PIL import Image

    slope = np.linspace(0, 255, side_px).astype(np.uint8)
    down, across = np.meshgrid(slope, slope, indexing="ij")
    middle, radius = (side_px - 1) / 2, side_px / 4
    rows, columns = np.ogrid[:side_px, :side_px]
    disc = (rows - middle) ** 2 + (columns - middle) ** 2 <= radius**2
    colours = np.stack([across, down, np.where(disc, 255, 0).astype(np.uint8)], axis=-1)
    file = io.BytesIO()
    Image.fromarray(colours).save(file, "PNG")
    return file.getvalue()


def _logs(signatures: Mapping[str, Any], image: bytes, image_size_px: int) -> Iterator[Any]:
    for name in sorted(signatures):
        takes = set(signatures[name].inputs)
        if takes == {"image_bytes"}:
            for size in batch_sizes(image_size_px) if name == BY_DEFAULT else (1,):
                yield _predict(name, "image_bytes", _strings(image, size))
        elif takes == {"images"}:
            yield _predict(name, "images", _grey_image(image_size_px))
        elif takes == {"inputs"}:
            yield _classify(name, image)


def _predict(signature: str, takes: str, tensor: Any) -> Any:
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.name, request.model_spec.signature_name = MODEL_NAME, signature
    request.inputs[takes].CopyFrom(tensor)
    return log


def _classify(signature: str, image: bytes) -> Any:
    log = prediction_log_pb2.PredictionLog()
    request = log.classify_log.request
    request.model_spec.name, request.model_spec.signature_name = MODEL_NAME, signature
    put_image(request.input.example_list.examples.add(), image)
    return log


def _strings(image: bytes, count: int) -> Any:
    return tf.make_tensor_proto([image] * count, tf.string, shape=[count])


def _grey_image(side_px: int) -> Any:
    """Return `[1, side, side, 3]` float32 as a message: one number stands for all, or the file would hold megabytes."""
    message = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[GREY_LEVEL])
    for side in (1, side_px, side_px, 3):
        message.tensor_shape.dim.add(size=side)
    return message


def write_inside(folder: Path, facts: Facts, **told: Any) -> None:
    """Write warm-up requests and the model card into the folder of a SavedModel.

    Args:
        folder: that holds `saved_model.pb`, not yet its manifest.
        facts: what may be told of the run.
        told: as in `write_card`.

    Raises:
        OSError: the disk is full.
    """
    write_warm_up(folder, image_size_px=told["image_size_px"], max_pixels=told["max_pixels"])
    write_card(folder, facts, **told)

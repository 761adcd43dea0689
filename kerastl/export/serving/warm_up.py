"""Requests that TF Serving asks itself when it loads a model, so that the first picture of a user need not wait.

TF Serving reads them from `assets.extra/tf_serving_warmup_requests`, a TFRecord of `PredictionLog`, at most 1,000.
The picture in them is drawn, none of the data.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import prediction_log_pb2

from kerastl.export.graph_file import served_signatures
from kerastl.export.serving.batches import batch_sizes
from kerastl.export.serving.names import MODEL_NAME
from kerastl.export.tf_example import put_picture

WARM_UP = "assets.extra/tf_serving_warmup_requests"
BY_DEFAULT = "serving_default"
GREY_LEVEL = 128.0


def write_warm_up(folder: Path, *, image_size_px: int, max_pixels: int) -> None:
    """Write a request for each signature of a SavedModel, and one for each batch size to `serving_default`.

    What a size costs the first time (oneDNN prepares its primitives by shape) is kept for the whole process, so one
    signature warms the sizes for all; each has a graph of its own, so each is asked once.

    Args:
        folder: that holds `saved_model.pb`.
        image_size_px: side of the square picture that the model sees, in pixels.
        max_pixels: height times width above which the model refuses a picture.

    Raises:
        OSError: the disk is full.
    """
    side = min(image_size_px, math.isqrt(max_pixels))
    file = folder / WARM_UP
    file.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for log in _logs(served_signatures(folder) or {}, drawn_picture(side), image_size_px):
            writer.write(log.SerializeToString(deterministic=True))


def drawn_picture(side_px: int) -> bytes:
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


def _logs(signatures: Mapping[str, Any], picture: bytes, image_size_px: int) -> Iterator[Any]:
    for name in sorted(signatures):
        takes = set(signatures[name].inputs)
        if takes == {"image_bytes"}:
            for size in batch_sizes(image_size_px) if name == BY_DEFAULT else (1,):
                yield _predict(name, "image_bytes", _strings(picture, size))
        elif takes == {"images"}:
            yield _predict(name, "images", _grey_picture(image_size_px))
        elif takes == {"inputs"}:
            yield _classify(name, picture)


def _predict(signature: str, takes: str, tensor: Any) -> Any:
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.name, request.model_spec.signature_name = MODEL_NAME, signature
    request.inputs[takes].CopyFrom(tensor)
    return log


def _classify(signature: str, picture: bytes) -> Any:
    log = prediction_log_pb2.PredictionLog()
    request = log.classify_log.request
    request.model_spec.name, request.model_spec.signature_name = MODEL_NAME, signature
    put_picture(request.input.example_list.examples.add(), picture)
    return log


def _strings(picture: bytes, count: int) -> Any:
    return tf.make_tensor_proto([picture] * count, tf.string, shape=[count])


def _grey_picture(side_px: int) -> Any:
    """Return `[1, side, side, 3]` float32 as a message: one number stands for all, or the file would hold megabytes."""
    message = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[GREY_LEVEL])
    for side in (1, side_px, side_px, 3):
        message.tensor_shape.dim.add(size=side)
    return message

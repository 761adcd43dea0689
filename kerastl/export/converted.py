"""Convert a trained model to the format of another runtime."""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from kerastl import registry
from kerastl.console import print_status
from kerastl.data.decode import fit_inside
from kerastl.errors import RequestError
from kerastl.evaluation.trained_model import Trained
from kerastl.export.client_files import LABELS, write_client_files
from kerastl.export.endpoints import probabilities_of
from kerastl.export.model_card import read_model_facts
from kerastl.export.postprocess import Postprocessing
from kerastl.export.saved_model import model_fields, write_version
from kerastl.image_size import Resize, Size
from kerastl.models import fold_for_inference
from kerastl.recipe import MODEL_NAME

INPUT = "images"
OUTPUT = "probabilities"
NOT_INLINED = ("_XlaMustCompile", "_noinline")
"""Attributes that keep a function from being inlined."""
COMMON_OPS = {"Const", "Identity", "NoOp", "Placeholder"}
"""Operations of every graph: none of them is why a conversion fails."""


@dataclass(frozen=True)
class InferenceGraph:
    """A graph from `images` `[n, height, width, 3]` float32 in [0, 255] to `probabilities` `[n, classes]` float32.

    Args:
        graph_def: The graph, with constants instead of variables.
        images: The input.
        trained: The model and its description.
        postprocessing: What is applied to the logits.
    """

    graph_def: Any
    images: tf.TensorSpec
    trained: Trained
    postprocessing: Postprocessing

    def function(self) -> Any:
        """Return the graph as a concrete function with named input and output."""

        def predict(images: tf.Tensor) -> dict[str, tf.Tensor]:
            (probabilities,) = tf.graph_util.import_graph_def(
                self.graph_def, {INPUT: images}, [f"{OUTPUT}:0"], name=""
            )
            return {OUTPUT: tf.ensure_shape(probabilities, [None, len(self.trained.class_names)])}

        return tf.function(predict, input_signature=[self.images], autograph=False).get_concrete_function()


def build_inference_graph(
    trained: Trained, postprocessing: Postprocessing, with_resize: bool = False
) -> InferenceGraph:
    """Return a model as a single inference graph, with BatchNorm layers folded where this is exact.

    Args:
        trained: The model and its description.
        postprocessing: Its temperature and prevalence become part of the graph. Its threshold cannot, because
            the graph does not return labels.
        with_resize: Whether the graph resizes the images: then they are `[n, height, width, 3]`.
    """
    folded, size = fold_for_inference(trained.model), trained.image_size_px

    def predict(images: tf.Tensor) -> tf.Tensor:
        if with_resize:
            images = resize_images(images, size, trained.resize)
        # In float32, because mobile runtimes have no float64.
        logits = tf.cast(folded(images, training=False), tf.float32)
        return tf.identity(probabilities_of(logits, postprocessing), name=OUTPUT)

    sides = (None, None) if with_resize else size
    spec = tf.TensorSpec([None, *sides, 3], tf.float32, name=INPUT)
    traced = tf.function(predict, input_signature=[spec], autograph=False).get_concrete_function()
    graph = InferenceGraph(_freeze(traced), spec, trained, postprocessing)
    if not _allow_inlining(graph.graph_def):
        return graph
    return replace(graph, graph_def=_freeze(graph.function()))


def resize_images(images: tf.Tensor, size: Size, resize: Resize) -> tf.Tensor:
    """Resize images as `resize_image` does, by matrix products: no converter supports TensorFlow's antialiased resize.

    Args:
        images: `[n, height, width, 3]` float32 in [0, 255].
        size: (height, width) of the result in pixels.
        resize: The rule.
    """
    shape = tf.shape(images)[1:3]
    # `window` is the part of the image that is shown, and `inner` the part of the result that shows it. They are computed in
    # int32, because LiteRT cannot divide int64: for sides of up to 262,144 pixels.
    window = fit_inside(size, shape, tf.int32) if resize == "crop" else shape
    inner = fit_inside(shape, size, tf.int32) if resize == "pad" else tf.constant(size)

    def weights(axis: int) -> tf.Tensor:
        """Return the weight of each input pixel in each output pixel, `[size, length]`: a triangle, clipped at the border."""
        length, scaled = tf.cast(window[axis], tf.float32), tf.cast(inner[axis], tf.float32)
        rows = tf.range(size[axis]) - (size[axis] - inner[axis]) // 2
        columns = tf.range(shape[axis]) - (shape[axis] - window[axis]) // 2
        # Positions times `scaled * length` are exact. A division by `size` would become a factor that float16 rounds.
        centers = (tf.cast(rows, tf.float32) + 0.5)[:, None] * length
        positions = (tf.cast(columns, tf.float32) + 0.5) * scaled
        triangle = tf.nn.relu(1.0 - tf.abs(positions - centers) / tf.maximum(length, scaled))
        if resize == "crop":
            triangle *= tf.cast((columns >= 0) & (columns < window[axis]), tf.float32)
        weights = triangle / tf.maximum(tf.reduce_sum(triangle, axis=1, keepdims=True), 1e-3)
        if resize == "pad":
            weights *= tf.cast((rows >= 0) & (rows < inner[axis]), tf.float32)[:, None]
        return weights

    channels = tf.transpose(images, [0, 3, 1, 2])
    columns = tf.matmul(tf.matmul(weights(0), channels), weights(1), transpose_b=True)
    resized = tf.clip_by_value(tf.transpose(columns, [0, 2, 3, 1]), 0.0, 255.0)
    resized.set_shape([None, *size, 3])
    return resized


def _freeze(function: Any) -> Any:
    """Return a concrete function as a graph of constants, with the functions that it calls inlined."""
    frozen = convert_variables_to_constants_v2(function)
    graph_def = frozen.graph.as_graph_def()
    # Arrays that are not weights, such as Normalization's mean, are inputs here. tf2onnx would keep them.
    names = (tensor.name.split(":")[0] for tensor in frozen.inputs[1:])
    captured = dict(zip(names, frozen.captured_inputs, strict=True))
    for node in graph_def.node:
        if node.name in captured:
            make_constant(node, captured[node.name].numpy())
    return graph_def


def _allow_inlining(graph_def: Any) -> bool:
    """Remove the attributes that prevent inlining, and return whether the graph has functions.

    Keras computes grouped convolutions, as in ConvNeXt, in a function that only XLA supports.
    """
    for item in (*graph_def.library.function, *graph_def.node):
        for name in NOT_INLINED:
            item.attr.pop(name, None)
    return bool(graph_def.library.function)


def make_constant(node: Any, value: Any) -> None:
    """Replace a node with a constant of the same name."""
    name = node.name
    node.Clear()
    node.name, node.op = name, "Const"
    node.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))


def write_converted(
    trained: Trained,
    out: Path,
    name: str,
    postprocessing: Postprocessing,
    version: int | None = None,
    quantize: str | None = None,
    with_resize: bool = False,
    model_name: str = MODEL_NAME,
) -> Path:
    """Write a model in the format of another runtime as a new version.

    Args:
        trained: The model and its description.
        out: The folder of all versions; nothing in it is overwritten.
        name: Name of the format.
        postprocessing: Temperature and prevalence become part of the graph; the threshold is in the manifest
            only.
        version: The version to write; None for the one after the highest.
        quantize: One of the `QUANTIZE_CHOICES` of the format; None for float32.
        with_resize: Whether the model resizes the images itself.
        model_name: Name of the model on a server.

    Returns:
        The version folder, e.g. `out/1`.

    Raises:
        RequestError: The model cannot be converted; nothing is written.
        OSError, RunFailed: The disk is full; no partial export remains.
    """
    module = registry.module("format", name)
    if quantize is not None:
        print_status(f"Quantizing to {quantize} and measuring the effect on the run's test images")
    _check_class_names(trained.class_names, name)
    facts, sides = read_model_facts(trained.folder), (None, None) if with_resize else trained.image_size_px
    conversion: dict[str, Any] = {
        "format": name,
        "input": {"name": INPUT, "shape": [None, *sides, 3], "dtype": "float32", "range": [0, 255], "colors": "RGB"},
        "output": {"name": OUTPUT, "shape": [None, len(trained.class_names)], "dtype": "float32"},
        "with_resize": with_resize,
    }  # fmt: skip

    def fill(folder: Path) -> None:
        with _quiet():
            graph = build_inference_graph(trained, postprocessing, with_resize)
            conversion.update(_convert(graph, folder, name, quantize))
        conversion["bytes"] = sum(file.stat().st_size for file in folder.iterdir())
        predict = module.load(folder)[1]
        write_client_files(
            folder, trained, postprocessing, runtime=module, conversion=conversion, predict=predict
        )

    written = write_version(
        out, fill, version=version, **model_fields(trained), postprocessing=postprocessing, conversion=conversion,
        scores=facts.scores, training=facts.training, model_name=model_name,
    )  # fmt: skip
    if hasattr(module, "write_server_files"):
        module.write_server_files(out, trained, with_resize=with_resize, model_name=model_name)
    return written


def _check_class_names(class_names: Sequence[str], format_name: str) -> None:
    """Raise RequestError if class names cannot be written one per line."""
    if any(len(name.splitlines()) != 1 for name in class_names):
        raise RequestError(
            f"This model cannot be converted to {format_name}: a class name is empty or has a line break, and {LABELS} "
            f"has one name per line: {list(class_names)}. Nothing was written. Every model can be exported with "
            "--format saved_model"
        )


def _convert(graph: InferenceGraph, folder: Path, name: str, quantize: str | None) -> dict[str, Any]:
    """Write a graph in a format, and return details for the manifest.

    Raises:
        RequestError: The format cannot represent the graph, or the images to calibrate it are missing.
        OSError: The disk is full.
    """
    options = {} if quantize is None else {"quantize": quantize}
    try:
        return registry.module("format", name).convert(graph, folder, **options)
    except (OSError, RequestError):
        raise
    except Exception as error:  # each converter raises its own exceptions
        raise RequestError(_conversion_error(name, str(error), graph)) from error


def _conversion_error(name: str, message: str, graph: InferenceGraph) -> str:
    """Return the error for a model that cannot be converted to a format."""
    operations = {node.op for node in graph.graph_def.node} - COMMON_OPS
    unsupported = sorted(kind for kind in operations if re.search(rf"\b{re.escape(kind)}\b", message))
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    reason = "; ".join(lines[:3])[:300] or "the converter gives no reason"
    if unsupported:
        reason = f"{name} has no equivalent of TensorFlow's {', '.join(unsupported[:3])}"
    return (
        f"This model cannot be converted to {name}: {reason}. Nothing was written. "
        "Every model can be exported with --format saved_model"
    )


@contextmanager
def _quiet() -> Generator[None, None, None]:
    """Suppress the output of converters, including that of native code."""
    disabled = logging.root.manager.disable
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(descriptor) for descriptor in (1, 2)]
    try:
        with Path(os.devnull).open("wb") as null, warnings.catch_warnings():
            for descriptor in (1, 2):
                os.dup2(null.fileno(), descriptor)
            logging.disable(logging.WARNING)
            warnings.simplefilter("ignore")
            yield
    finally:
        for descriptor, original in zip((1, 2), saved, strict=True):
            os.dup2(original, descriptor)
            os.close(original)
        logging.disable(disabled)

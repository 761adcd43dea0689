"""ONNX, for ONNX Runtime and other tools. The class names are in its metadata."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kerastl.evaluation.trained_model import Trained
    from kerastl.export.converted import InferenceGraph

FILE = "model.onnx"
FILES = (FILE,)
REQUIRED_PACKAGES = ("tf2onnx", "onnx", "onnxruntime")
OPSET = 17
"""Supported by ONNX Runtime 1.12 (2022) and later; no model here needs a newer one."""
NAMES = "class_names"
MAX_NAME_LENGTH = 53
"""KServe appends `-predictor` to the name of a model, and a name in Kubernetes has up to 63 characters."""
OPEN_DIMENSIONS = ("n", "height", "width")
TITLE = "ONNX Runtime"
PACKAGE = "onnxruntime"
CLIENT_IMPORT = "import onnxruntime"
CLIENT_PREDICT = """\
session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
probabilities = session.run(["probabilities"], {"images": images})[0][0]"""


def convert(graph: InferenceGraph, folder: Path) -> dict[str, Any]:
    """Write a graph to `model.onnx` in a folder, and return details for the manifest."""
    import onnx
    import tf2onnx

    from kerastl.export.converted import INPUT, OUTPUT

    # tf2onnx numbers names by a process-wide counter and sorts by name: numbers of equal length keep the order.
    tf2onnx.utils.INTERNAL_NAME = 100_000
    proto, _ = tf2onnx.convert.from_graph_def(
        _without_erfc(graph.graph_def), name="kerastl", input_names=[f"{INPUT}:0"], output_names=[f"{OUTPUT}:0"],
        opset=OPSET, tensors_to_rename={f"{INPUT}:0": INPUT, f"{OUTPUT}:0": OUTPUT},
    )  # fmt: skip
    for tensor in (*proto.graph.input, *proto.graph.output):
        # tf2onnx numbers open dimensions by a counter.
        for dimension, name in zip(tensor.type.tensor_type.shape.dim, OPEN_DIMENSIONS, strict=False):
            if not dimension.HasField("dim_value"):
                dimension.dim_param = name
    _renumber(proto.graph, {})
    onnx.helper.set_model_props(proto, {NAMES: json.dumps(graph.trained.class_names, ensure_ascii=False)})
    onnx.checker.check_model(proto, full_check=True)
    (folder / FILE).write_bytes(proto.SerializeToString(deterministic=True))
    return {"opset": OPSET}


def _without_erfc(graph_def: Any) -> Any:
    """Return a graph with `1 - erf(x)` for `erfc(x)`, by which Keras computes GELU and which ONNX lacks.

    In float32 both agree to 1e-7 absolutely; the relative precision of erfc in its tail does not affect the outputs.
    """
    import tensorflow as tf

    from kerastl.export.converted import make_constant

    rewritten = type(graph_def)()
    rewritten.CopyFrom(graph_def)
    del rewritten.node[:]
    for node in graph_def.node:
        if node.op != "Erfc":
            rewritten.node.append(node)
            continue
        erf = rewritten.node.add(name=f"{node.name}/erf", op="Erf", input=list(node.input))
        ones = rewritten.node.add(name=f"{node.name}/one")
        make_constant(ones, tf.as_dtype(node.attr["T"].type).as_numpy_dtype(1))
        difference = rewritten.node.add(name=node.name, op="Sub", input=[ones.name, erf.name])
        for added in (erf, difference):
            added.attr["T"].CopyFrom(node.attr["T"])
    return rewritten


def _renumber(graph: Any, numbers: dict[str, int]) -> None:
    """Number names from 1 in the order of the graph, so that equal models are equal files, whatever was converted before."""

    def renumber(name: str) -> str:
        return re.sub(r"__(\d+)", lambda match: f"__{numbers.setdefault(match[1], len(numbers) + 1)}", name)

    for node in graph.node:
        node.name = renumber(node.name)
        for names in (node.input, node.output):
            names[:] = [renumber(name) for name in names]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _renumber(attribute.g, numbers)
    for tensor in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        tensor.name = renumber(tensor.name)


def write_server_files(out: Path, trained: Trained, *, with_resize: bool = False, model_name: str) -> None:
    """Write files for Triton and KServe next to the versions, except those that were modified.

    Args:
        out: The folder of all versions, which is one model in a model repository of Triton.
        trained: The description of the newest version.
        with_resize: Whether the newest version resizes the images itself.
        model_name: Name of the model on the server.

    Raises:
        OSError: The disk is full or the folder cannot be written; no partial file remains.
    """
    from kerastl.export.client_files import render_templates
    from kerastl.export.serving_files import batch_sizes, write_unless_modified

    values = {
        "model_name": model_name,
        "class_names": trained.class_names,
        "image_size_px": (-1, -1) if with_resize else trained.image_size_px,
        "max_batch_size": batch_sizes(trained.image_size_px)[-1],
    }
    write_unless_modified(out, render_templates("triton", values))


def load(folder: Path) -> tuple[list[str], Callable[[Any], Any]]:
    """Return the class names and a function from images to probabilities, in ONNX Runtime on the CPU.

    The file is passed as bytes, so that ONNX Runtime reads no other file: all weights are in it.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession((folder / FILE).read_bytes(), providers=["CPUExecutionProvider"])
    class_names = json.loads(session.get_modelmeta().custom_metadata_map[NAMES])
    return class_names, lambda images: session.run(["probabilities"], {"images": images})[0]

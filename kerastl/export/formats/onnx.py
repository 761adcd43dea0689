"""ONNX, for ONNX Runtime and all that reads it; in its metadata: the class names."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kerastl.evaluation.trained_model import Trained
    from kerastl.export.converted import InferenceGraph
    from kerastl.export.postprocess import Postprocessing

FILE = "model.onnx"
NEEDS = ("tf2onnx", "onnx", "onnxruntime")
OPSET = 17
"""Runs in ONNX Runtime from 1.12 (2022) on, and no operation of a network here needs a newer one."""
NAMES = "class_names"


def write(trained: Trained, out: Path, *, postprocessing: Postprocessing, version: int | None = None) -> Path:
    """Export a trained model under `out`, as `version` or the next number, and return the folder written."""
    from kerastl.export.converted import write_converted

    return write_converted(trained, out, "onnx", _convert, postprocessing, version)


def _convert(network: InferenceGraph, folder: Path) -> dict[str, Any]:
    import onnx
    import tf2onnx

    from kerastl.export.converted import INPUT, OUTPUT

    # It numbers what it names by a counter of the process, and orders by those names: equal lengths keep the order.
    tf2onnx.utils.INTERNAL_NAME = 100_000
    proto, _ = tf2onnx.convert.from_graph_def(
        _without_erfc(network.graph_def), name="kerastl", input_names=[f"{INPUT}:0"], output_names=[f"{OUTPUT}:0"],
        opset=OPSET, tensors_to_rename={f"{INPUT}:0": INPUT, f"{OUTPUT}:0": OUTPUT},
    )  # fmt: skip
    takes = [one.name for one in proto.graph.input]
    if takes != [INPUT]:
        raise ValueError(f"the graph takes {', '.join(takes)}, not {INPUT} alone")
    for tensor in (*proto.graph.input, *proto.graph.output):
        # tf2onnx numbers the batch's dimension as it goes along.
        tensor.type.tensor_type.shape.dim[0].dim_param = "n"
    _renumber(proto.graph, {})
    onnx.helper.set_model_props(proto, {NAMES: json.dumps(network.class_names, ensure_ascii=False)})
    onnx.checker.check_model(proto, full_check=True)
    (folder / FILE).write_bytes(proto.SerializeToString(deterministic=True))
    return {"opset": OPSET}


def _without_erfc(graph_def: Any) -> Any:
    """Return a graph with `1 - erf(x)` for `erfc(x)`: ONNX has the one and not the other, and Keras computes GELU by it.

    In float32 both agree to 1e-7, absolutely; the digits that erfc keeps far out do not reach an answer.
    """
    rewritten = type(graph_def)()
    rewritten.CopyFrom(graph_def)
    del rewritten.node[:]
    for node in graph_def.node:
        if node.op != "Erfc":
            rewritten.node.append(node)
            continue
        erf = rewritten.node.add(name=f"{node.name}/erf", op="Erf", input=list(node.input))
        one = rewritten.node.add(name=f"{node.name}/one", op="Const")
        one.attr["dtype"].CopyFrom(node.attr["T"])
        one.attr["value"].tensor.dtype = node.attr["T"].type
        one.attr["value"].tensor.float_val.append(1.0)
        one.attr["value"].tensor.tensor_shape.SetInParent()
        less = rewritten.node.add(name=node.name, op="Sub", input=[one.name, erf.name])
        for each in (erf, less):
            each.attr["T"].CopyFrom(node.attr["T"])
    return rewritten


def _renumber(graph: Any, numbers: dict[str, int]) -> None:
    """Number names from 1 on in the order of the graph: the same model is to be the same file, whatever was converted before."""

    def named(name: str) -> str:
        return re.sub(r"__(\d+)", lambda found: f"__{numbers.setdefault(found[1], len(numbers) + 1)}", name)

    for node in graph.node:
        node.name = named(node.name)
        for names in (node.input, node.output):
            names[:] = [named(name) for name in names]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _renumber(attribute.g, numbers)
    for one in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        one.name = named(one.name)


def opened(folder: Path) -> tuple[list[str], Callable[[Any], Any]]:
    """Return the class names in the file, and what answers for images, in ONNX Runtime on the CPU.

    Weights are in the file, so it is handed over as bytes: none is looked for in another file.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession((folder / FILE).read_bytes(), providers=["CPUExecutionProvider"])
    names = json.loads(session.get_modelmeta().custom_metadata_map[NAMES])
    return names, lambda images: session.run(["probabilities"], {"images": images})[0]

"""The pixels that a served graph hands to its network: read out of the graph itself, not made by code beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from kerastl.export.endpoints import DECODED
from kerastl.export.graph_file import read_graph
from kerastl.export.outside import called

FUNCTION = "kerastl_served_pixels"
INPUT = "image_bytes"


def served_pixels(export: Path, encoded: Sequence[bytes]) -> npt.NDArray[np.float32] | None:
    """Run the part of an exported graph that lies before its network, as it was written, on the CPU.

    Args:
        export: the numbered folder, which `read_export` has checked and opened.
        encoded: at least one whole picture file.

    Returns:
        `[n, size, size, 3]` float32 in [0, 255]; None where the graph does not name that place.

    Raises:
        tf.errors.OpError: a picture cannot be decoded, or the graph is damaged.
    """
    import tensorflow as tf

    for meta in read_graph(export).meta_graphs:
        library = {
            function.signature.name: function for function in meta.graph_def.library.function
        }
        holders = [
            function
            for function in library.values()
            if any(node.name == DECODED for node in function.node_def)
        ]
        if len(holders) != 1:
            continue
        graph_def = _graph_of(holders[0], library)
        with tf.Graph().as_default() as graph:
            tf.graph_util.import_graph_def(graph_def, name="")
        config = tf.compat.v1.ConfigProto(device_count={"GPU": 0})
        with tf.compat.v1.Session(graph=graph, config=config) as session:
            fed = {f"{INPUT}:0": np.array(list(encoded), object)}
            return cast(npt.NDArray[np.float32], session.run(f"{DECODED}:0", fed))
    return None


def _graph_of(function: Any, library: dict[str, Any]) -> Any:
    """Return a graph from `INPUT` to `DECODED`: the nodes of a served function that the pixels stand on."""
    from tensorflow.core.framework import graph_pb2, types_pb2

    part, nodes = _pixel_part(function)
    graph = graph_pb2.GraphDef()
    graph.library.function.add().CopyFrom(part)
    waiting, seen = [name for node in nodes for name in called(node)], set()
    while waiting:
        name = waiting.pop()
        if name in library and name not in seen:
            seen.add(name)
            graph.library.function.add().CopyFrom(library[name])
            waiting += [inner for node in library[name].node_def for inner in called(node)]
    fed = graph.node.add(name=INPUT, op="Placeholder")
    fed.attr["dtype"].type = types_pb2.DT_STRING
    call = graph.node.add(name=DECODED, op="StatefulPartitionedCall", input=[INPUT])
    call.attr["Tin"].list.type.append(types_pb2.DT_STRING)
    call.attr["Tout"].list.type.append(types_pb2.DT_FLOAT)
    call.attr["f"].func.name = FUNCTION
    return graph


def _pixel_part(function: Any) -> tuple[Any, list[Any]]:
    """Return a function that ends at the pixels, and its nodes; the network and its weights are left out."""
    from tensorflow.core.framework import function_pb2, types_pb2

    nodes = {node.name: node for node in function.node_def}
    needed: dict[str, Any] = {}
    waiting = [DECODED]
    while waiting:
        name = waiting.pop()
        if name in nodes and name not in needed:
            needed[name] = nodes[name]
            waiting += [one.removeprefix("^").split(":")[0] for one in nodes[name].input]
    part = function_pb2.FunctionDef()
    part.CopyFrom(function)
    for field in ("node_def", "ret", "control_ret", "arg_attr", "resource_arg_unique_id"):
        part.ClearField(field)
    part.signature.Clear()
    part.signature.name = FUNCTION
    part.signature.is_stateful = True
    part.signature.input_arg.add(name=INPUT, type=types_pb2.DT_STRING)
    part.signature.output_arg.add(name="pixels", type=types_pb2.DT_FLOAT)
    part.node_def.extend(needed.values())
    part.ret["pixels"] = f"{DECODED}:output:0"
    return part, list(needed.values())

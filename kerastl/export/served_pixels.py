"""The pixels that a served graph passes to its network, read out of the graph itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kerastl.export._probe import Outputs, ServingSession
from kerastl.export.endpoints import DECODED
from kerastl.export.graph_file import SERVE, read_graph

PIXELS = "kerastl_pixels"
SIGNATURE = "serving_default"


def outputs_and_pixels(
    export: Path, encoded: Sequence[bytes]
) -> tuple[Outputs, npt.NDArray[np.float32] | None]:
    """Run the endpoint for files once and return its outputs, and the pixels that its network got.

    The node of the decoded pixels becomes one more output of the endpoint; no other node is changed.

    Args:
        export: the numbered folder, whose graph has been checked.
        encoded: at least one whole image file.

    Returns:
        The outputs by name; and `[n, size, size, 3]` float32 in [0, 255], None if the graph does not name them.

    Raises:
        tf.errors.OpError: an image cannot be decoded, or the graph is damaged.
        ValueError: the graph is damaged.
    """
    metas = [meta for meta in read_graph(export).meta_graphs if SERVE in meta.meta_info_def.tags]
    if not metas or SIGNATURE not in metas[0].signature_def:
        raise ValueError(f"it has no endpoint {SIGNATURE}")
    meta = metas[0] if _expose_pixels(metas[0]) else None
    with ServingSession(export, meta=meta) as session:
        outputs = session.run(SIGNATURE, {"image_bytes": encoded})
    return outputs, outputs.pop(PIXELS, None)


def _expose_pixels(meta: Any) -> bool:
    """Add the decoded pixels to the outputs of the endpoint; return False if there is no such node."""
    from tensorflow.core.framework import types_pb2

    functions = {function.signature.name: function for function in meta.graph_def.library.function}
    outputs = meta.signature_def[SIGNATURE].outputs
    names = {info.name.split(":")[0] for info in outputs.values()}
    for node in meta.graph_def.node:
        index = _add_output(node, functions) if node.name in names else None
        if index is not None:
            outputs[PIXELS].name = f"{node.name}:{index}"
            outputs[PIXELS].dtype = types_pb2.DT_FLOAT
            return True
    return False


def _add_output(call: Any, functions: dict[str, Any]) -> int | None:
    """Add the pixels to the outputs of a call and of every function on the way to them; return their index."""
    from tensorflow.core.framework import types_pb2

    name = call.attr["f"].func.name if "f" in call.attr else ""
    if name not in functions:
        return None
    function = functions[name]
    source = None
    for node in function.node_def:
        if node.name == DECODED:
            source = f"{DECODED}:output:0"
        elif (index := _add_output(node, functions)) is not None:
            source = f"{node.name}:output:{index}"
        if source is not None:
            break
    else:
        return None
    function.signature.output_arg.add(name=PIXELS, type=types_pb2.DT_FLOAT)
    function.ret[PIXELS] = source
    # A list of shapes, one for each output, that no longer fits; TensorFlow infers it.
    call.attr.pop("_output_shapes", None)
    types = call.attr["Tout"].list.type
    types.append(types_pb2.DT_FLOAT)
    return len(types) - 1

"""Compare the pixels and probabilities of a SavedModel with those of its run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kerastl.errors import RequestError, first_line
from kerastl.export._probe import Outputs, ServingSession
from kerastl.export.endpoints import DECODED
from kerastl.export.findings import MAX_DIFFERENCE
from kerastl.export.graph_check import SERVE, check_graph, read_graph
from kerastl.export.manifest import read_manifest

PIXELS = "kerastl_pixels"
SIGNATURE = "serving_default"


def outputs_and_pixels(
    export: Path, encoded: Sequence[bytes]
) -> tuple[Outputs, npt.NDArray[np.float32] | None]:
    """Run the endpoint for files once, and return its outputs and the pixels that its network receives.

    The node of the decoded pixels becomes one more output of the endpoint; no other node is changed.

    Args:
        export: the version folder, whose graph has been checked.
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


Array = np.ndarray[Any, Any]


def compare_with_run(
    export: Path, encoded: Sequence[bytes], *, pixels: Array, probabilities: Array
) -> dict[str, Any]:
    """Compare what an export computes for image files with what the run computed.

    Args:
        export: the version folder of a SavedModel.
        encoded: at least one whole image file.
        pixels: `[n, size, size, 3]` float32 in [0, 255], as the run decoded the files.
        probabilities: `[n, classes]`, the softmax of the run's logits.

    Returns:
        `{"pixels": {"compared", "differ", "largest_difference"}, "predictions": {"differ", "largest_difference", "allowed"},
        "faults"}`. `differ` counts images. Pixels are read from the served graph and must be bit-equal; probabilities may
        differ by `allowed`. Either is None if the export does not give it.
    """
    import tensorflow as tf

    report: dict[str, Any] = {"pixels": None, "predictions": None, "faults": []}
    faults: list[str] = report["faults"]
    try:
        manifest = read_manifest(export)
        check_graph(export)
        outputs, served = outputs_and_pixels(export, encoded)
    except (RequestError, OSError, ValueError, tf.errors.OpError) as error:
        faults.append(f"it gives no predictions for images of the run: {first_line(error)}")
        return report
    names = tuple(name.decode(errors="replace") for name in outputs["class_names"][0])
    if names != manifest.class_names:
        faults.append(f"its classes are {list(names)}, the run's are {list(manifest.class_names)}")
    expected = manifest.postprocessing.apply(probabilities)
    report["predictions"] = _compare_probabilities(outputs["probabilities"], expected, faults)
    report["pixels"] = _compare_pixels(served, pixels, faults)
    return report


def _compare_pixels(served: Array | None, pixels: Array, faults: list[str]) -> dict[str, Any]:
    if served is None:
        reason = "the graph does not name its pixels; only predictions were compared"
        return {"compared": False, "reason": reason}
    if served.shape != pixels.shape:
        faults.append(f"its pixels have the shape {served.shape}, the run's {pixels.shape}")
        return {"compared": True, "differ": len(pixels), "largest_difference": None}
    differences = np.abs(served - pixels).max(axis=(1, 2, 3))
    differ = int(np.count_nonzero(differences))
    if differ:
        faults.append(
            f"its pixels differ from the run's for {differ} of {len(differences)} files, by up to "
            f"{differences.max():.3g} of 255: window, resizing or color"
        )
    return {"compared": True, "differ": differ, "largest_difference": float(differences.max())}


def _compare_probabilities(served: Array, expected: Array, faults: list[str]) -> dict[str, Any]:
    if served.shape != expected.shape:
        faults.append(f"its probabilities have the shape {served.shape}, the run's {expected.shape}")
        return {"differ": len(expected), "largest_difference": None, "allowed": MAX_DIFFERENCE}
    differences = np.abs(served - expected).max(axis=1)
    # Not `> MAX_DIFFERENCE`: NaN differs.
    differ = int(np.count_nonzero(~(differences <= MAX_DIFFERENCE)))
    largest = float(differences.max()) if np.isfinite(differences).all() else None
    if differ:
        faults.append(
            f"its probabilities differ from the run's for {differ} of {len(differences)} files, by up to "
            f"{differences.max():.2g} ({MAX_DIFFERENCE:g} is allowed)"
        )
    return {"differ": differ, "largest_difference": largest, "allowed": MAX_DIFFERENCE}

"""Compare the pixels and probabilities of an export with those of its run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tensorflow.core.framework import types_pb2

from kerastl.errors import first_line
from kerastl.export._probe import Outputs, ServingSession
from kerastl.export.endpoints import DECODED
from kerastl.export.findings import MAX_DIFFERENCE
from kerastl.export.formats import ExportFolder
from kerastl.export.graph_check import DEFAULT_SIGNATURE, check_graph, served_graph
from kerastl.export.loaded_export import load_converted
from kerastl.export.manifest import read_manifest

PIXELS = "kerastl_pixels"


def outputs_and_pixels(
    export: Path, encoded: Sequence[bytes]
) -> tuple[Outputs, npt.NDArray[np.float32] | None]:
    """Run the endpoint for files once, and return its outputs and the pixels that its network receives.

    The node with the decoded pixels becomes an additional output of the endpoint. No other nodes are changed.

    Args:
        export: The version folder, whose graph has been checked.
        encoded: At least one whole image file.

    Returns:
        The outputs by name; and `[n, height, width, 3]` float32 in [0, 255], None if the graph does not name
        them.

    Raises:
        tf.errors.OpError: An image cannot be decoded, or the graph is damaged.
        ValueError: The graph is damaged.
    """
    meta = served_graph(export)
    if meta is None or DEFAULT_SIGNATURE not in meta.signature_def:
        raise ValueError(f"it has no endpoint {DEFAULT_SIGNATURE}")
    with ServingSession(export, meta=meta if _expose_pixels(meta) else None) as session:
        outputs = session.run(DEFAULT_SIGNATURE, {"image_bytes": encoded})
    return outputs, outputs.pop(PIXELS, None)


def _expose_pixels(meta: Any) -> bool:
    """Add the decoded pixels to the outputs of the endpoint; return False if there is no such node."""
    functions = {function.signature.name: function for function in meta.graph_def.library.function}
    outputs = meta.signature_def[DEFAULT_SIGNATURE].outputs
    names = {info.name.split(":")[0] for info in outputs.values()}
    for node in meta.graph_def.node:
        source = _add_output(node, functions) if node.name in names else None
        if source is not None:
            # Within a function, the name of a tensor includes the name of the output.
            outputs[PIXELS].name = source.replace(":output:", ":")
            outputs[PIXELS].dtype = types_pb2.DT_FLOAT
            return True
    return False


def _add_output(node: Any, functions: dict[str, Any]) -> str | None:
    """Return the tensor of a node with the decoded pixels, and add it to the outputs of the functions around it."""
    if node.name == DECODED:
        return f"{DECODED}:output:0"
    function = functions.get(node.attr["f"].func.name) if "f" in node.attr else None
    if function is None:
        return None
    sources = (_add_output(inner, functions) for inner in function.node_def)
    source = next((source for source in sources if source is not None), None)
    if source is None:
        return None
    function.signature.output_arg.add(name=PIXELS, type=types_pb2.DT_FLOAT)
    function.ret[PIXELS] = source
    # A list of shapes, one for each output, that no longer fits; TensorFlow infers it.
    node.attr.pop("_output_shapes", None)
    types = node.attr["Tout"].list.type
    types.append(types_pb2.DT_FLOAT)
    return f"{node.name}:output:{len(types) - 1}"


Array = np.ndarray[Any, Any]


def compare_with_run(
    export: ExportFolder, encoded: Sequence[bytes], *, pixels: Array, logits: Array
) -> dict[str, Any]:
    """Compare the outputs of an export for image files with those of the run.

    Args:
        export: A SavedModel, or a converted model, which takes the decoded images.
        encoded: At least one whole image file.
        pixels: `[n, height, width, 3]` float32 in [0, 255], as the run decoded the files.
        logits: `[n, classes]`, those of the run.

    Returns:
        `{"pixels": {"compared", "differ", "largest_difference"}, "predictions": {"differ", "largest_difference", "allowed"},
        "faults"}`. `differ` counts images; for a quantized model, it counts those with a different label, which is not a
        fault. Pixels are read from the served graph and must be bit-identical. Probabilities may differ by `allowed`; it is
        None for a quantized model, for which no difference of a probability is a fault.
    """
    report: dict[str, Any] = {"pixels": None, "predictions": None, "faults": []}
    faults: list[str] = report["faults"]
    reason = "the graph does not name its pixels; only predictions were compared"
    try:
        manifest = read_manifest(export.folder)
        if export.is_converted:
            predict = load_converted(export, manifest)
            served, decoded, names = predict(np.asarray(pixels, np.float32)), None, manifest.class_names
            reason = "it takes decoded images"
        else:
            check_graph(export.folder)
            outputs, decoded = outputs_and_pixels(export.folder, encoded)
            served = outputs["probabilities"]
            names = tuple(name.decode(errors="replace") for name in outputs["class_names"][0])
    except Exception as error:  # each runtime has errors of its own
        faults.append(f"it gives no predictions for images of the run: {first_line(error)}")
        return report
    if names != manifest.class_names:
        faults.append(f"its classes are {list(names)}, the run's are {list(manifest.class_names)}")
    expected = manifest.postprocessing.apply(logits)
    report["predictions"] = _compare_probabilities(served, expected, manifest.quantize, faults)
    report["pixels"] = {"compared": False, "reason": reason}
    if decoded is not None:
        report["pixels"] = _compare_pixels(decoded, pixels, faults)
    return report


def _compare_pixels(served: Array, pixels: Array, faults: list[str]) -> dict[str, Any]:
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


def _compare_probabilities(
    served: Array, expected: Array, quantize: str | None, faults: list[str]
) -> dict[str, Any]:
    report = {
        "differ": len(expected),
        "largest_difference": None,
        "allowed": MAX_DIFFERENCE if quantize is None else None,
    }
    if served.shape != expected.shape:
        faults.append(f"its probabilities have the shape {served.shape}, the run's {expected.shape}")
        return report
    differences = np.abs(served - expected).max(axis=1)
    largest, num_invalid = float(differences.max()), int(np.count_nonzero(~np.isfinite(differences)))
    if quantize is None:
        differ = int(np.count_nonzero(~(differences <= MAX_DIFFERENCE)))  # NaN differs
    else:  # write_exports reports changed labels
        differ = int(np.count_nonzero(served.argmax(axis=1) != expected.argmax(axis=1)))
    if num_invalid:
        faults.append(f"its probabilities are not finite for {num_invalid} of {len(expected)} files")
    elif differ and quantize is None:
        faults.append(
            f"its probabilities differ from the run's for {differ} of {len(expected)} files, by up to {largest:.2g} "
            f"({MAX_DIFFERENCE:g} is allowed)"
        )
    return report | {"differ": differ, "largest_difference": largest if np.isfinite(largest) else None}

"""OpenVINO's model.xml and model.bin, for Intel's processors; in its runtime information: the class names."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kerastl.evaluation.trained_model import Trained
    from kerastl.export.converted import InferenceGraph
    from kerastl.export.postprocess import Postprocessing

FILE = "model.xml"
NEEDS = ("openvino",)
NAMES = ["kerastl", "class_names"]


def write(trained: Trained, out: Path, *, postprocessing: Postprocessing, version: int | None = None) -> Path:
    """Export a trained model under `out`, as `version` or the next number, and return the folder written."""
    from kerastl.export.converted import write_converted

    return write_converted(trained, out, "openvino", _convert, postprocessing, version)


def _convert(network: InferenceGraph, folder: Path) -> None:
    import openvino

    from kerastl.export.converted import INPUT, OUTPUT

    with tempfile.TemporaryDirectory(prefix="kerastl.") as name:
        # Read by OpenVINO's own C++ code: `openvino.convert_model` would tell its makers of each conversion.
        frozen = Path(name, "frozen.pb")
        frozen.write_bytes(network.graph_def.SerializeToString(deterministic=True))
        model = openvino.Core().read_model(frozen)
    if len(model.inputs) != 1:
        takes = ", ".join(one.get_any_name() for one in model.inputs)
        raise ValueError(f"the graph takes {takes}, not {INPUT} alone")
    model.inputs[0].tensor.set_names({INPUT})
    model.outputs[0].tensor.set_names({OUTPUT})
    # Its names carry a counter of the process: the same model is to be the same file, whatever came before.
    for place, operation in enumerate(model.get_ordered_ops()):
        operation.set_friendly_name(f"{operation.get_type_name()}_{place}")
    model.inputs[0].get_node().set_friendly_name(INPUT)
    model.set_rt_info(json.dumps(network.class_names, ensure_ascii=False), NAMES)
    openvino.save_model(model, folder / FILE, compress_to_fp16=False)


def opened(folder: Path) -> tuple[list[str], Callable[[Any], Any]]:
    """Return the class names in the file, and what answers for images, on the CPU in float32.

    Left to itself, OpenVINO computes in bfloat16 on processors that have it, at errors of about 1e-2.
    """
    import openvino

    core = openvino.Core()
    model = core.read_model(folder / FILE)
    names = json.loads(str(model.get_rt_info(NAMES).value))
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return names, lambda images: compiled({"images": images})["probabilities"].copy()

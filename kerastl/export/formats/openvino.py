"""OpenVINO (model.xml and model.bin), for Intel processors. The class names are in its runtime information."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kerastl.export.converted import InferenceGraph

FILE = "model.xml"
FILES = (FILE,)
REQUIRED_PACKAGES = ("openvino",)
TITLE = "OpenVINO"
PACKAGE = "openvino"
CLIENT_IMPORT = "import openvino"
CLIENT_PREDICT = """\
model = openvino.compile_model(folder / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
probabilities = model({"images": images})["probabilities"][0]"""
NAMES = ["kerastl", "class_names"]


def convert(graph: InferenceGraph, folder: Path) -> dict[str, Any]:
    """Write a graph to `model.xml` and `model.bin` in a folder, and return details for the manifest."""
    import openvino

    from kerastl.export.converted import INPUT, OUTPUT

    with tempfile.TemporaryDirectory(prefix="kerastl.") as name:
        # Read by OpenVINO's C++ code, because `openvino.convert_model` sends telemetry.
        frozen = Path(name, "frozen.pb")
        frozen.write_bytes(graph.graph_def.SerializeToString(deterministic=True))
        model = openvino.Core().read_model(frozen)
    model.input().tensor.set_names({INPUT})
    model.output().tensor.set_names({OUTPUT})
    # Names contain a process-wide counter: renamed, so that equal models are equal files.
    for index, operation in enumerate(model.get_ordered_ops()):
        operation.set_friendly_name(f"{operation.get_type_name()}_{index}")
    model.input().get_node().set_friendly_name(INPUT)
    model.set_rt_info(json.dumps(graph.trained.class_names, ensure_ascii=False), NAMES)
    openvino.save_model(model, folder / FILE, compress_to_fp16=False)
    return {}


def load(folder: Path) -> tuple[list[str], Callable[[Any], Any]]:
    """Return the class names and a function from images to probabilities, on the CPU in float32.

    By default, OpenVINO computes in bfloat16 on processors that support it, with errors of about 1e-2.
    """
    import openvino

    core = openvino.Core()
    model = core.read_model(folder / FILE)
    class_names = json.loads(str(model.get_rt_info(NAMES).value))
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return class_names, lambda images: compiled({"images": images})["probabilities"].copy()

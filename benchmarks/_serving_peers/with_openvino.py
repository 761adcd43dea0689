"""OpenVINO: it reads the SavedModel itself, and answers one request at a time."""

from __future__ import annotations

import sys


def main() -> None:
    import openvino
    from task import Task, measure

    task = Task.parse(sys.argv[1:])
    model = openvino.convert_model(task.saved_model)
    # The hint that its guide names for one request after the other. Its own choice of precision, where the CPU has bfloat16,
    # would be that one.
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.compile_model(model, "CPU", settings)
    measure(task, lambda images: compiled(images)[0])


main()

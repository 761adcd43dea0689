"""OpenVINO with the SavedModel, one request at a time."""

from __future__ import annotations

import sys


def main() -> None:
    import openvino
    from task import Task, measure

    task = Task.parse(sys.argv[1:])
    model = openvino.convert_model(task.saved_model)
    # The OpenVINO guide recommends this hint for sequential requests. The default precision on CPUs with bfloat16
    # instructions is bfloat16.
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.compile_model(model, "CPU", settings)
    measure(task, lambda images: compiled(images)[0])


main()

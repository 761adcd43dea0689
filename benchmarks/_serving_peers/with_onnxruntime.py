"""ONNX Runtime with the SavedModel converted by tf2onnx."""

from __future__ import annotations

import subprocess
import sys


def main() -> None:
    from task import Task, measure

    task = Task.parse(sys.argv[1:])
    file = task.scratch / "model.onnx"
    words = [sys.executable, "-m", "tf2onnx.convert", "--saved-model", task.saved_model]
    done = subprocess.run([*words, "--output", str(file)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"tf2onnx: {(done.stderr.strip().splitlines() or ['no error message'])[-1]}")
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    measure(task, lambda images: session.run(None, {name: images})[0])


main()

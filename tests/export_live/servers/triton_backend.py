"""The backend of a model in Triton's Python backend, in place of the backend that `config.pbtxt` names.

`nvidia-pytriton` contains no ONNX Runtime backend and no TensorFlow backend. Triton finds this file as `model.py` in the
folder of the backend, and calls it with the model's own configuration: its inputs, outputs and version. It runs the model
with the Python packages ONNX Runtime and TensorFlow.
"""

import json
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        return config

    def initialize(self, args):
        config = json.loads(args["model_config"])
        self.inputs, self.outputs = (
            [tensor["name"] for tensor in config[key]] for key in ("input", "output")
        )
        folder = Path(args["model_repository"], args["model_version"])
        load = _load_onnx if config["backend"] == "onnxruntime" else _load_saved_model
        self.run = load(folder)

    def execute(self, requests):
        responses = []
        for request in requests:
            tensors = {
                name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs
            }
            try:
                values = self.run(self.outputs, tensors)
            except Exception as error:  # each runtime raises its own exceptions
                responses.append(pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error))))
                continue
            outputs = [pb_utils.Tensor(name, value) for name, value in zip(self.outputs, values, strict=True)]
            responses.append(pb_utils.InferenceResponse(outputs))
        return responses


def _load_onnx(folder):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    return session.run


def _load_saved_model(folder):
    import tensorflow as tf

    signature = tf.saved_model.load(str(folder / "model.savedmodel")).signatures["serving_default"]

    def run(names, tensors):
        outputs = signature(**{name: tf.constant(list(values)) for name, values in tensors.items()})
        return [np.asarray(outputs[name]) for name in names]

    # Loaded here, because a backend may not keep the only reference to the object.
    run.signature = signature
    return run
